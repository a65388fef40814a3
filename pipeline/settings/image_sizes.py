"""The smallest images that the project's networks take: arithmetic on settings, no PyTorch.

`settings.rules` refuses smaller ones, so that the networks needn't.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass

LARGEST_IMAGE = 1024  # data.image_size

# By architectures.NAME.pooling: the height or width of a map, in pixels, to that after pooling.
POOLED_SIZE: dict[str, Callable[[int], int]] = {
    "max": lambda size: size // 2,
    "average": lambda size: size // 2,
    "strided_conv": lambda size: (size + 1) // 2,
    "dilated_conv": lambda size: size,
    "none": lambda size: size,
}


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
        together = {"layer": channels, "instance": 1, "group": channels // self.groups}
        return 2 if together.get(self.name) == 1 else 1  # values at each position


def cnn_obstacle(
    image_size: int, channels: Sequence[int], geometry: Geometry, norm: Norm, pooling: str
) -> str | None:
    """Return why a plain CNN can't take images of this size, or None.

    Each block has to leave pixels for the next, and enough of them for its norm.
    """

    def is_enough(size: int) -> bool:
        for width in channels:
            # a dilated kernel has to see a second pixel, else it is a kernel of 1x1
            if size < (1 if geometry.dilation == 1 else 1 + geometry.dilation):
                return False
            size = geometry.size(size)
            if size < norm.smallest_size(width):
                return False
            size = POOLED_SIZE[pooling](size)
        return size >= 1

    smallest = 1 + bisect_left(range(1, LARGEST_IMAGE + 1), True, key=is_enough)
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
    if any(norm.smallest_size(width) > 1 for width in channels):
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
    normalised = f", normalisation {norm.name}" if last > 1 else ""
    what = f"block_config {list(block_config)}{normalised} and small_inputs {small_inputs}".lower()
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
