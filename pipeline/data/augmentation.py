"""Augmentation of batches, with every random parameter drawn per image.

torchvision's transforms draw once for a batch, so here the draws and the arithmetic are kept apart:
`draw` makes the parameters of an epoch, `augment` applies a batch's share of them on whatever
device the images are on. The steps and their definitions are torchvision's: random resized crop or
random crop with zero padding, horizontal flip, rotation (nearest neighbour, corners zero), and then
brightness, contrast, saturation and hue in this order (`ColorJitter` shuffles the four), and random
erasing. `cutmix` or `mixup` comes last, as they mix images with each other.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

LUMA = (0.2989, 0.587, 0.114)  # grey from red, green and blue: ITU-R BT.601
ASPECT_RATIOS = (3 / 4, 4 / 3)  # of a random resized crop
ERASED_SHARES = (0.02, 0.33)  # of the image's area; torchvision's values, the paper's are to 0.4
ERASED_RATIOS = (0.3, 3.3)  # height by width; both
ATTEMPTS = 10  # to find a crop or rectangle that lies within the image; torchvision's number
FLOATS_AT_ONCE = 1 << 16  # 256 kB, a fraction of a core's cache
FAR = 1e6  # pixels
SMALLEST_SPAN = 1e-12  # keeps grey pixels from dividing by zero


@dataclass(frozen=True)
class Augmentation:
    """How strongly each step may change an image; 0 switches the step off."""

    # smallest share of the image's area that is cropped and enlarged to its size; the largest is 1,
    # the aspect ratio lies between 3/4 and 4/3
    random_resized_crop: float = 0.0
    crop_padding: int = 0  # zero pixels added on each side before a crop of the original size
    horizontal_flip: float = 0.0  # probability of a mirror image
    rotation: float = 0.0  # largest angle in degrees, to either side
    brightness: float = 0.0  # the factor lies in [max(0, 1 - brightness), 1 + brightness]
    contrast: float = 0.0  # the same for contrast
    saturation: float = 0.0  # the same for saturation; does nothing to images of one channel
    # largest shift of the hue to either side, in turns of the colour circle (0 to 0.5); does
    # nothing to images of one channel
    hue: float = 0.0
    random_erasing: float = 0.0  # probability that a rectangle of an image becomes one colour
    cutmix: float = 0.0  # probability that a patch of an image is replaced by another image's
    mixup: float = 0.0  # alpha of the Beta distribution of another image's share


@dataclass(frozen=True)
class Draws:
    """The drawn parameters of B images, each a tensor (B,), or None where the step is off."""

    # row of the source image that becomes row 0, int32 in ±crop_padding
    shift_down: Tensor | None = None
    # column of the source image that becomes column 0, int32 in ±crop_padding
    shift_right: Tensor | None = None
    flip: Tensor | None = None  # whether the image is mirrored, bool
    angle: Tensor | None = None  # rotation in degrees, counter-clockwise, float32
    brightness: Tensor | None = None  # factor, float32
    contrast: Tensor | None = None  # factor, float32
    saturation: Tensor | None = None  # factor, float32
    hue: Tensor | None = None  # shift in turns, float32
    crop_height: Tensor | None = None  # of a random resized crop, pixels, float32 integers
    crop_width: Tensor | None = None  # the same for its width
    crop_top: Tensor | None = None  # row of the source image that is its first, float32 integers
    crop_left: Tensor | None = None  # column that is its first
    # share of the image's area that a CutMix patch has before it is cut off at the borders, float32
    # in [0, 1]; 0 for no patch
    patch: Tensor | None = None
    # middle of the patch as a share of the height, float32 in [0, 1)
    patch_row: Tensor | None = None
    patch_column: Tensor | None = None  # the same of the width
    erase_height: Tensor | None = None  # of an erased rectangle, pixels, float32 integers; 0: none
    erase_width: Tensor | None = None  # the same for its width
    erase_top: Tensor | None = None  # its first row, float32 integers
    erase_left: Tensor | None = None  # its first column
    mixed: Tensor | None = None  # share of the other image in MixUp, float32 in [0, 1]

    def __getitem__(self, positions: slice | Tensor) -> Draws:
        """Return the draws of some of the images, by slice or by a tensor of positions."""
        return self._each(lambda drawn: drawn[positions])

    def to(self, device: torch.device | str) -> Draws:
        """Return the draws on `device`."""
        return self._each(lambda drawn: drawn.to(device, non_blocking=True))

    def _each(self, change: Callable[[Tensor], Tensor]) -> Draws:
        drawn = {name: value for name, value in vars(self).items() if value is not None}
        return Draws(**{name: change(value) for name, value in drawn.items()})


def draw(augmentation: Augmentation, count: int, size: int, generator: torch.Generator) -> Draws:
    """Draw the parameters of `count` images of `size` pixels squared, on the CPU.

    Every step has its own random numbers whether it is on or off, so that switching one off leaves
    what the others draw as it was. The same state of the CPU `generator` gives the same draws.
    """
    uniform = torch.rand(8, count, generator=generator)  # in [0, 1)
    for_patches = torch.rand(4, count, generator=generator)
    drawn: dict[str, Tensor] = {}
    if padding := augmentation.crop_padding:
        for name, values in zip(("shift_down", "shift_right"), uniform[:2], strict=True):
            # the integers from -padding to padding, each equally likely
            shift = (values * (2 * padding + 1)).floor().int().clamp_(max=2 * padding)
            drawn[name] = shift - padding
    if augmentation.horizontal_flip:
        drawn["flip"] = uniform[2] < augmentation.horizontal_flip
    if augmentation.rotation:
        drawn["angle"] = (2 * uniform[3] - 1) * augmentation.rotation
    for row, name in enumerate(("brightness", "contrast", "saturation"), start=4):
        if strength := getattr(augmentation, name):
            lowest = max(0.0, 1.0 - strength)
            drawn[name] = lowest + uniform[row] * (1.0 + strength - lowest)
    if augmentation.hue:
        drawn["hue"] = (2 * uniform[7] - 1) * augmentation.hue
    if augmentation.cutmix:
        drawn["patch"] = for_patches[1] * (for_patches[0] < augmentation.cutmix)
        drawn["patch_row"], drawn["patch_column"] = for_patches[2], for_patches[3]
    # What takes more numbers than all of these is drawn only if needed, and last of its generator.
    # The second one is seeded by what the first would draw next, whether that is drawn or not.
    following = torch.Generator().set_state(generator.get_state())
    second = torch.Generator().manual_seed(int(torch.randint(2**62, (), generator=following)))
    for_mixing = torch.rand(count, generator=second, dtype=torch.float64)
    if augmentation.mixup:  # by the inverse of the cumulative distribution, for any alpha exact
        from scipy.special import betaincinv  # no other training has to import it

        alpha = augmentation.mixup
        drawn["mixed"] = torch.from_numpy(betaincinv(alpha, alpha, for_mixing.numpy())).float()
    if augmentation.random_resized_crop:
        drawn |= _resized_crops(augmentation.random_resized_crop, count, size, generator)
    if augmentation.random_erasing:
        drawn |= _erased_rectangles(augmentation.random_erasing, count, size, second)
    return Draws(**drawn)


def augment(images: Tensor, draws: Draws) -> Tensor:
    """Apply the drawn parameters to a batch.

    Args:
        images: uint8 (B, H, W, C) with C 1 or 3, on any device; left unchanged.
        draws: the parameters of these B images, on the same device.

    Returns:
        float32 (B, C, H, W) in [0, 1], in channels_last memory format.
    """
    moved = _move_pixels(_crop_and_resize(images, draws), draws)
    brightness, contrast = draws.brightness, draws.contrast
    is_rgb = images.shape[-1] == 3
    saturation, hue = (draws.saturation, draws.hue) if is_rgb else (None, None)
    if all(step is None for step in (brightness, contrast, saturation, hue)):
        return (moved / 255).permute(0, 3, 1, 2)
    # One plane per channel: (C, B, H, W). The colour arithmetic then runs over contiguous memory.
    planes = moved.permute(3, 0, 1, 2).to(torch.float32, memory_format=torch.contiguous_format)
    planes = planes / 255
    if brightness is not None:
        planes = planes.mul_(brightness.view(-1, 1, 1)).clamp_(max=1.0)
    if contrast is not None:
        grey = _luma(planes.mean((2, 3))) if is_rgb else planes[0].mean((1, 2))
        planes = _blended(planes, grey.view(-1, 1, 1), contrast)
    if saturation is not None:
        planes = _blended(planes, _luma(planes), saturation)
    if hue is not None:
        planes = _hue_shifted(planes, hue)
    return planes.permute(1, 2, 3, 0).contiguous().permute(0, 3, 1, 2)


def erase(images: Tensor, colour: Tensor, draws: Draws) -> Tensor:
    """Paint a rectangle of each image in one colour, as torchvision's RandomErasing does.

    Zhong, Zheng, Kang, Li and Yang, "Random Erasing Data Augmentation",
    https://arxiv.org/abs/1708.04896, who find the mean colour as good as random pixels.

    Args:
        images: float (B, C, H, W); left unchanged.
        colour: float (C,).
        draws: the parameters of these B images; without rectangles nothing is erased.

    Returns:
        Images like `images`.
    """
    if draws.erase_height is None or draws.erase_width is None:
        return images
    assert draws.erase_top is not None
    assert draws.erase_left is not None
    down = _within(draws.erase_top, draws.erase_height, images.shape[2])  # (B, H)
    across = _within(draws.erase_left, draws.erase_width, images.shape[3])  # (B, W)
    erased = (down[:, :, None] & across[:, None, :])[:, None]  # (B, 1, H, W)
    painted = torch.where(erased, colour.view(-1, 1, 1), images)
    return painted.contiguous(memory_format=torch.channels_last)


def cutmix(images: Tensor, labels: Tensor, num_classes: int, draws: Draws) -> tuple[Tensor, Tensor]:
    """Replace a patch of each image by the same patch of its neighbour in the batch, mixing labels.

    The images of a batch come in a random order; the first and the second exchange patches, the
    third and the fourth, and so on, each with a patch of its own. An odd last one stays as it is.

    Yun, Han, Oh, Chun, Choe and Yoo, "CutMix", https://arxiv.org/abs/1905.04899, with its alpha of
    1: the patch's share of the area is uniform, before the patch is cut off at the borders.

    Args:
        images: float (B, C, H, W); left unchanged.
        labels: int64 (B,).
        num_classes: number of classes K.
        draws: the parameters of these B images; without patches nothing is replaced.

    Returns:
        Images like `images`, and the classes' weights float32 (B, K): that of the other image's
        class is the share of pixels that were replaced, so each row sums to one.
    """
    targets = F.one_hot(labels, num_classes).float()
    if draws.patch is None or draws.patch_row is None or draws.patch_column is None:
        return images, targets
    _, _, height, width = images.shape
    partner = _partners(images)
    side = draws.patch.sqrt() / 2
    down = _interval(draws.patch_row, side, height)  # (B, H)
    across = _interval(draws.patch_column, side, width)  # (B, W)
    replaced = down[:, :, None] & across[:, None, :]  # (B, H, W)
    share = replaced.float().mean((1, 2)).unsqueeze(1)
    mixed = torch.where(replaced[:, None], images[partner], images)
    return (
        mixed.contiguous(memory_format=torch.channels_last),
        targets * (1 - share) + targets[partner] * share,
    )


def mixup(images: Tensor, labels: Tensor, num_classes: int, draws: Draws) -> tuple[Tensor, Tensor]:
    """Blend each image with its neighbour in the batch, as `cutmix` pairs them, and their labels.

    Each of the two has a share of its own, where torchvision's MixUp draws one for a batch. An odd
    last image stays as it is.

    Zhang, Cisse, Dauphin and Lopez-Paz, "mixup: Beyond Empirical Risk Minimization",
    https://arxiv.org/abs/1710.09412

    Args:
        images: float (B, C, H, W); left unchanged.
        labels: int64 (B,).
        num_classes: number of classes K.
        draws: the parameters of these B images; without shares nothing is mixed.

    Returns:
        Images like `images`, and the classes' weights float32 (B, K), which sum to one.
    """
    targets = F.one_hot(labels, num_classes).float()
    if draws.mixed is None:
        return images, targets
    partner = _partners(images)
    blended = images.lerp(images[partner], draws.mixed.view(-1, 1, 1, 1))
    return (
        blended.contiguous(memory_format=torch.channels_last),
        targets.lerp(targets[partner], draws.mixed.unsqueeze(1)),
    )


def normalise(images: Tensor, mean: np.ndarray | Tensor, std: np.ndarray | Tensor) -> Tensor:
    """Return float (B, C, H, W) less the mean of each channel, divided by its standard deviation.

    `mean` and `std` (C,) are in the units of `images`, which are left unchanged.
    """
    count, channels, height, width = images.shape
    # all pixels of an image in one row: a loop over its three channels would be slow
    rows = images.permute(0, 2, 3, 1).reshape(count, -1)  # (B, H * W * C)
    to_pixels = [
        torch.as_tensor(value, dtype=images.dtype, device=images.device).repeat(height * width)
        for value in (mean, std)
    ]
    normalised = (rows - to_pixels[0]).div_(to_pixels[1])
    return normalised.view(count, height, width, channels).permute(0, 3, 1, 2)


def standardise(images: Tensor, mean: np.ndarray | Tensor, std: np.ndarray | Tensor) -> Tensor:
    """Scale uint8 (B, H, W, C) to [0, 1] and `normalise` it.

    On a CPU it goes by a few images, so that their floats stay in the cache from one step to the
    next; the bits are the same.

    Returns:
        float32 (B, C, H, W), in channels_last memory format.
    """
    count, height, width, _ = images.shape
    rows = images.reshape(count, -1)  # (B, H * W * C)
    pixel_mean, pixel_std = (
        torch.as_tensor(value, dtype=torch.float32, device=images.device).repeat(height * width)
        for value in (mean, std)
    )
    at_once = count if images.is_cuda else max(1, FLOATS_AT_ONCE // rows.shape[1])
    result = torch.empty(rows.shape, device=images.device)
    for floats, pixels in zip(result.split(at_once), rows.split(at_once), strict=True):
        floats.copy_(pixels).div_(255).sub_(pixel_mean).div_(pixel_std)
    return result.view(images.shape).permute(0, 3, 1, 2)


def _resized_crops(
    smallest_area: float, count: int, size: int, generator: torch.Generator
) -> dict[str, Tensor]:
    """Choose crops as torchvision does: of ten attempts the first that lies within the image."""
    uniform = torch.rand(2 * ATTEMPTS + 2, count, generator=generator)
    area = smallest_area + uniform[:ATTEMPTS] * (1 - smallest_area)
    low, high = (math.log(ratio) for ratio in ASPECT_RATIOS)
    ratio = (low + uniform[ATTEMPTS : 2 * ATTEMPTS] * (high - low)).exp()
    heights, widths = (size * (area / ratio).sqrt()).round(), (size * (area * ratio).sqrt()).round()
    within = (heights.clamp(1, size) == heights) & (widths.clamp(1, size) == widths)
    first = within.int().argmax(0, keepdim=True)  # (1, count)
    found = within.any(0)
    full_size = torch.full((count,), float(size))
    height = torch.where(found, heights.gather(0, first)[0], full_size)
    width = torch.where(found, widths.gather(0, first)[0], full_size)
    return {
        "crop_height": height,
        "crop_width": width,
        "crop_top": (uniform[-2] * (size - height + 1)).floor(),
        "crop_left": (uniform[-1] * (size - width + 1)).floor(),
    }


def _erased_rectangles(
    probability: float, count: int, size: int, generator: torch.Generator
) -> dict[str, Tensor]:
    """Choose rectangles as torchvision does: of ten attempts the first that lies within the image.

    Where none does, nothing is erased.
    """
    uniform = torch.rand(2 * ATTEMPTS + 3, count, generator=generator)
    least, most = ERASED_SHARES
    area = size**2 * (least + uniform[:ATTEMPTS] * (most - least))  # (attempts, count)
    low, high = (math.log(ratio) for ratio in ERASED_RATIOS)
    ratio = (low + uniform[ATTEMPTS : 2 * ATTEMPTS] * (high - low)).exp()
    heights, widths = (area * ratio).sqrt().round(), (area / ratio).sqrt().round()
    within = (heights < size) & (widths < size)
    first = within.int().argmax(0, keepdim=True)  # (1, count)
    is_erased = within.any(0) & (uniform[-3] < probability)
    height, width = heights.gather(0, first)[0] * is_erased, widths.gather(0, first)[0] * is_erased
    return {
        "erase_height": height,
        "erase_width": width,
        "erase_top": (uniform[-2] * (size - height + 1)).floor(),
        "erase_left": (uniform[-1] * (size - width + 1)).floor(),
    }


def _partners(images: Tensor) -> Tensor:
    """Return int64 (B,): of each image the one that it is mixed with, its neighbour in a pair."""
    positions = torch.arange(len(images), device=images.device)
    return (positions ^ 1).clamp(max=len(images) - 1)


def _within(first: Tensor, length: Tensor, size: int) -> Tensor:
    """Return bool (B, size): the `length` pixels from the `first` on, both (B,)."""
    pixels = torch.arange(size, device=first.device)
    return (pixels >= first.unsqueeze(1)) & (pixels < (first + length).unsqueeze(1))


def _interval(middle: Tensor, half: Tensor, size: int) -> Tensor:
    """Return bool (B, size): the pixels within `half` of the `middle`, both (B,) shares of size."""
    centre = (middle * size).floor().unsqueeze(1)
    reach = (half * size).floor().unsqueeze(1)
    pixels = torch.arange(size, device=middle.device)
    return (pixels >= centre - reach) & (pixels < centre + reach)


def _crop_and_resize(images: Tensor, draws: Draws) -> Tensor:
    """Enlarge a crop of each image to the image's size, bilinearly.

    Maps uint8 (B, H, W, C) to float32 (B, H, W, C) in [0, 255], or to itself without such crops.
    """
    if draws.crop_height is None or draws.crop_width is None:
        return images
    assert draws.crop_top is not None
    assert draws.crop_left is not None
    _, height, width, _ = images.shape
    rows = _sampled(draws.crop_height, draws.crop_top, height)  # (B, H)
    columns = _sampled(draws.crop_width, draws.crop_left, width)  # (B, W)
    pixels = (columns[:, None, :].expand(-1, height, -1), rows[:, :, None].expand(-1, -1, width))
    grid = torch.stack(pixels, dim=-1)  # (B, H, W, 2), in grid_sample's units
    planes = images.permute(0, 3, 1, 2).float()
    return F.grid_sample(planes, grid, align_corners=True).permute(0, 2, 3, 1)


def _sampled(length: Tensor, first: Tensor, size: int) -> Tensor:
    """Return (B, size): where the pixels of an enlarged crop lie, -1 and 1 being the outermost."""
    length, first = length.unsqueeze(1), first.unsqueeze(1)
    within = (torch.arange(size, device=length.device) + 0.5) * length / size - 0.5
    within = within.clamp(min=0).minimum(length - 1)  # nothing from outside the crop
    return 2 * (first + within) / max(size - 1, 1) - 1


def _move_pixels(images: Tensor, draws: Draws) -> Tensor:
    """Crop, then flip, then rotate: (B, H, W, C) to the same, in a single gather.

    The steps are followed backwards: each output pixel is traced to where it lies before rotation,
    flip and crop. A pixel that leaves the image on the way is zero.
    """
    cropped, flipped, rotated = draws.shift_down, draws.flip, draws.angle
    if cropped is None and flipped is None and rotated is None:
        return images
    count, height, width, channels = images.shape
    device = images.device
    rows = torch.arange(height, device=device, dtype=torch.float32).view(1, -1, 1)
    columns = torch.arange(width, device=device, dtype=torch.float32).view(1, 1, -1)
    if rotated is not None:
        # where each pixel of the rotated image lies before rotation, to the nearest pixel
        middle_row, middle_column = (height - 1) / 2, (width - 1) / 2
        radians = torch.deg2rad(rotated).view(-1, 1, 1)
        cos, sin = radians.cos(), radians.sin()
        down, right = rows - middle_row, columns - middle_column
        rows = (cos * down + (sin * right + middle_row)).round_()
        columns = ((middle_column - sin * down) + cos * right).round_()
        if cropped is not None:
            # What lies outside moves so far away that no crop brings it back. No comparison: bool
            # takes a CPU several times as long as floats.
            rows = torch.add(rows, rows - rows.clamp(0, height - 1), alpha=FAR)
            columns = torch.add(columns, columns - columns.clamp(0, width - 1), alpha=FAR)
    if flipped is not None:
        # columns or (width - 1 - columns), without a slow select
        mirrored = flipped.view(-1, 1, 1).float()
        columns = columns * (1 - 2 * mirrored) + (width - 1) * mirrored
    if cropped is not None and draws.shift_right is not None:
        rows = rows + cropped.view(-1, 1, 1)
        columns = columns + draws.shift_right.view(-1, 1, 1)
    # a frame of zero pixels, one wide, is where everything outside is sent
    framed = F.pad(images, (0, 0, 1, 1, 1, 1))  # (B, H + 2, W + 2, C)
    size = (height + 2) * (width + 2)
    first = torch.arange(count, device=device, dtype=torch.int32).view(-1, 1, 1) * size
    in_row = first + (rows.clamp(-1, height).int() + 1) * (width + 2)
    index = in_row + (columns.clamp(-1, width).int() + 1)  # (B, H, W)
    return framed.view(-1, channels).index_select(0, index.view(-1)).view(images.shape)


def _luma(planes: Tensor) -> Tensor:
    red, green, blue = planes
    return red * LUMA[0] + green * LUMA[1] + blue * LUMA[2]


def _blended(planes: Tensor, other: Tensor, factor: Tensor) -> Tensor:
    """Return factor * planes + (1 - factor) * other, kept within [0, 1]; overwrites `planes`."""
    factor = factor.view(-1, 1, 1)
    return planes.mul_(factor).add_((1 - factor) * other).clamp_(0.0, 1.0)


def _hue_shifted(planes: Tensor, shift: Tensor) -> Tensor:
    """Turn the hue of RGB planes (3, B, H, W) in the hexagonal HSV model.

    Value and saturation stay, so a channel is `largest - span * d`, where `d` in [0, 1] is how far
    along the hue circle (of length 6) the channel lies from where it is largest. No pixel has to be
    sorted into one of six sectors.
    """
    red, green, blue = planes
    largest = torch.maximum(torch.maximum(red, green), blue)
    span = largest - torch.minimum(torch.minimum(red, green), blue)
    # 0 or 1 as floats, by their sign: to compare into bool takes several times as long
    is_red = (red - largest).sign_().add_(1.0)
    is_green = (green - largest).sign_().add_(1.0).mul_(1.0 - is_red)
    is_blue = 1.0 - is_red - is_green
    hue = (green - blue).mul_(is_red)
    hue.add_((blue - red).mul_(is_green)).add_((red - green).mul_(is_blue))
    hue.div_(span.clamp(min=SMALLEST_SPAN))  # a grey pixel has hue 0
    hue.add_(is_green.mul_(2.0)).add_(is_blue.mul_(4.0)).add_(6.0 * shift.view(-1, 1, 1))
    shifted = torch.empty_like(planes)
    for plane, offset in zip(shifted, (5.0, 3.0, 1.0), strict=True):
        torch.add(hue, offset, out=plane)
        plane.sub_((plane / 6.0).floor_().mul_(6.0))
        plane.sub_(2.0).abs_().neg_().add_(2.0).clamp_(0.0, 1.0)
        plane.mul_(span).neg_().add_(largest)
    return shifted
