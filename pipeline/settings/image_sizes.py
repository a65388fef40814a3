"""The smallest images that the project's networks take: arithmetic on settings, no PyTorch.

So that `python -m pipeline check` can tell, and the networks refuse what it would.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

LARGEST_IMAGE = 1024  # data.image_size


@dataclass(frozen=True)
class Geometry:
    """What a convolution does to the height and width of a map; all in pixels."""

    kernel_size: int
    stride: int
    padding: int
    dilation: int

    @classmethod
    def of(cls, kernel_size: int, stride: int, padding: int | None, dilation: int) -> Geometry:
        """Return a convolution's; a padding of None keeps the size at stride 1."""
        kept = dilation * (kernel_size - 1) // 2
        return cls(kernel_size, stride, kept if padding is None else padding, dilation)

    @property
    def seen(self) -> int:
        """Return height and width of what the kernel covers."""
        return self.dilation * (self.kernel_size - 1) + 1

    def size(self, size: int) -> int:
        """Return the size of the map that one of this size becomes; less than 1: none."""
        return (size + 2 * self.padding - self.seen) // self.stride + 1

    def needed(self, size: int) -> int:
        """Return the smallest size of which this much is left, and more than one pixel is seen."""
        next_pixel = 1 if self.dilation == 1 else 1 + self.dilation
        return max(next_pixel, (size - 1) * self.stride + self.seen - 2 * self.padding)


@dataclass(frozen=True)
class Pooled:
    """What a way of pooling does to the height and width of a map.

    Attributes:
        size: takes the size of a map, in pixels; returns the size after pooling.
        needed: takes a size; returns the smallest size that leaves this much.
    """

    size: Callable[[int], int]
    needed: Callable[[int], int]


def _same(size: int) -> int:
    return size


_HALVED = Pooled(lambda size: size // 2, lambda size: 2 * size)
_KEPT = Pooled(_same, _same)

POOLED: dict[str, Pooled] = {
    "max": _HALVED,
    "average": _HALVED,
    "strided_conv": Pooled(lambda size: (size + 1) // 2, lambda size: 2 * size - 1),
    "dilated_conv": _KEPT,
    "none": _KEPT,
}


@dataclass(frozen=True)
class Norm:
    """A normalisation by its name in params.yaml, and the groups of group normalisation."""

    name: str
    groups: int

    def smallest_size(self, channels: int) -> int:
        """Return the smallest height and width of `channels` maps that leaves it some values.

        A single value is its own mean: normalised, it is 0 whatever the image (and PyTorch refuses
        to train).
        """
        values = {
            "layer": channels,
            "instance": 1,
            "group": channels // self.groups,
        }  # normalised together at each position
        return 2 if values.get(self.name) == 1 else 1


def cnn_obstacle(
    image_size: int, channels: Sequence[int], geometry: Geometry, norm: Norm, pooling: str
) -> str | None:
    """Return why a plain CNN can't take images of this size, or None.

    Each block has to leave pixels for the next, and enough of them for its norm.
    """
    smallest, alone = 1, False
    for width in reversed(channels):
        normalised = norm.smallest_size(width)
        alone |= normalised > 1
        smallest = geometry.needed(max(POOLED[pooling].needed(smallest), normalised))
    settings = [f"channels {list(channels)}"]
    if geometry.stride > 1:
        settings.append(f"stride {geometry.stride}")
    if 2 * geometry.padding < geometry.seen - 1:
        settings.append(
            f"padding {geometry.padding} (kernel_size {geometry.kernel_size}, "
            f"dilation {geometry.dilation})"
        )
    elif geometry.dilation > 1:
        settings.append(f"dilation {geometry.dilation}")
    if alone:
        settings.append(f"normalisation {norm.name}")
    return _obstacle(image_size, smallest, f"cnn with {', '.join(settings)} and pooling {pooling}")


def densenet_obstacle(
    image_size: int, block_config: Sequence[int], small_inputs: bool, narrowest: int, norm: Norm
) -> str | None:
    """Return why a DenseNet can't take images of this size, or None.

    The last block's maps must have pixels, and enough of them for its norms. All other maps are at
    least twice as large.

    Args:
        image_size: height and width of the images, in pixels.
        block_config: number of dense layers in each block.
        small_inputs: whether the stem keeps the size instead of quartering it.
        narrowest: the fewest channels that the last block normalises.
        norm: the normalisation.
    """
    last = norm.smallest_size(narrowest)
    smallest = last * 2 ** (len(block_config) - 1)  # each transition halves, rounding down
    if not small_inputs:
        smallest = 4 * (smallest - 1) + 1  # the stem quarters, rounding up
    settings = [f"block_config {list(block_config)}"]
    if last > 1:
        settings.append(f"normalisation {norm.name}")
    what = f"{', '.join(settings)} and small_inputs {str(small_inputs).lower()}"
    return _obstacle(image_size, smallest, f"densenet with {what}")


def _obstacle(image_size: int, smallest: int, what: str) -> str | None:
    if image_size >= smallest:
        return None
    if smallest > LARGEST_IMAGE:
        return f"{what} leaves nothing of any image; take fewer blocks, or smaller steps"
    return (
        f"{what} needs images of at least {smallest}x{smallest} pixels, "
        f"not {image_size}x{image_size}; raise data.image_size to {smallest} or more"
    )
