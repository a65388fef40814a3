"""Augmentation against torchvision, image by image with the same drawn parameters."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from scipy.stats import beta, kstest
from torch import Tensor
from torchvision.transforms import InterpolationMode, RandomErasing, RandomResizedCrop
from torchvision.transforms.functional import to_tensor
from torchvision.transforms.v2 import MixUp
from torchvision.transforms.v2 import functional as reference

from pipeline.data import augmentation
from pipeline.data.augmentation import (
    Augmentation,
    Draws,
    augment,
    cutmix,
    draw,
    erase,
    mixup,
    normalise,
    standardise,
)

EVERYTHING = Augmentation(
    crop_padding=4,
    horizontal_flip=0.5,
    rotation=15.0,
    brightness=0.4,
    contrast=0.4,
    saturation=0.4,
    hue=0.2,
)
COLOUR_TOLERANCE = 2e-3
# Where a rotated coordinate falls on the middle between two pixels to the last bit of a float32,
# torchvision may round it the other way.
TIED_PIXELS = 1e-4  # measured: 1e-6


def random_images(
    count: int = 64, size: int = 32, channels: int = 3, seed: int = 0
) -> Tensor:  # uint8 (B, H, W, C)
    generator = torch.Generator().manual_seed(seed)
    shape = (count, size, size, channels)
    return torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)


def drawn(augmentation: Augmentation, count: int = 64, seed: int = 0, size: int = 32) -> Draws:
    return draw(augmentation, count, size, torch.Generator().manual_seed(seed))


def cropped(image: Tensor, down: Tensor, right: Tensor, padding: int) -> Tensor:
    padded = reference.pad(image, [padding])
    top, left = int(down) + padding, int(right) + padding
    return reference.crop(padded, top, left, *image.shape[-2:])


@pytest.mark.parametrize("channels", [1, 3])
def test_crop_and_flip_equal_torchvision_exactly(channels: int) -> None:
    images = random_images(channels=channels)
    draws = drawn(Augmentation(crop_padding=4, horizontal_flip=0.5))
    result = augment(images, draws)
    for position, image in enumerate(images.permute(0, 3, 1, 2)):
        down, right = draws.shift_down[position], draws.shift_right[position]
        expected = cropped(image, down, right, padding=4)
        if draws.flip[position]:
            expected = reference.horizontal_flip(expected)
        assert torch.equal(result[position], expected / 255)


@pytest.mark.parametrize("size", [31, 32])
def test_rotation_equals_torchvision_but_for_ties(size: int) -> None:
    images = random_images(size=size)
    draws = drawn(Augmentation(rotation=180.0))
    result = augment(images, draws)
    differing = 0
    for position, image in enumerate(images.permute(0, 3, 1, 2)):
        angle = float(draws.angle[position])
        expected = reference.rotate(image, angle, InterpolationMode.NEAREST)
        differing += int((result[position] != expected / 255).any(0).sum())
    assert differing <= TIED_PIXELS * images.shape[0] * size * size


def test_crop_flip_and_rotation_compose_in_this_order() -> None:
    images = random_images()
    draws = drawn(Augmentation(crop_padding=4, horizontal_flip=0.5, rotation=15.0))
    result = augment(images, draws)
    differing = 0
    for position, image in enumerate(images.permute(0, 3, 1, 2)):
        down, right = draws.shift_down[position], draws.shift_right[position]
        expected = cropped(image, down, right, padding=4)
        if draws.flip[position]:
            expected = reference.horizontal_flip(expected)
        angle = float(draws.angle[position])
        expected = reference.rotate(expected, angle, InterpolationMode.NEAREST)
        differing += int((result[position] != expected / 255).any(0).sum())
    assert differing <= TIED_PIXELS * images.shape[0] * 32 * 32


@pytest.mark.parametrize(
    ("setting", "adjust"),
    [
        ("brightness", reference.adjust_brightness),
        ("contrast", reference.adjust_contrast),
        ("saturation", reference.adjust_saturation),
        ("hue", reference.adjust_hue),
    ],
)
@pytest.mark.parametrize("channels", [1, 3])
def test_each_colour_step_equals_torchvision(setting: str, adjust, channels: int) -> None:
    images = random_images(channels=channels)
    images[0] = 77  # a grey image has no hue
    draws = drawn(Augmentation(**{setting: 0.5}))
    factors = getattr(draws, setting)
    result = augment(images, draws)
    for position, image in enumerate(images.permute(0, 3, 1, 2)):
        expected = adjust(image / 255, float(factors[position]))
        torch.testing.assert_close(result[position], expected, atol=COLOUR_TOLERANCE, rtol=0)


def test_the_colour_steps_follow_each_other_as_in_torchvision() -> None:
    images = random_images()
    draws = drawn(replace(EVERYTHING, crop_padding=0, horizontal_flip=0.0, rotation=0.0))
    result = augment(images, draws)
    for position, image in enumerate(images.permute(0, 3, 1, 2)):
        expected = image / 255
        expected = reference.adjust_brightness(expected, float(draws.brightness[position]))
        expected = reference.adjust_contrast(expected, float(draws.contrast[position]))
        expected = reference.adjust_saturation(expected, float(draws.saturation[position]))
        expected = reference.adjust_hue(expected, float(draws.hue[position]))
        torch.testing.assert_close(result[position], expected, atol=COLOUR_TOLERANCE, rtol=0)


@pytest.mark.parametrize("channels", [1, 3])
def test_with_everything_off_only_the_scale_changes(channels: int) -> None:
    images = random_images(channels=channels)
    result = augment(images, drawn(Augmentation()))
    assert torch.equal(result, images.permute(0, 3, 1, 2) / 255)
    assert result.dtype == torch.float32
    assert drawn(Augmentation()) == Draws()


def test_saturation_and_hue_leave_grey_images_alone() -> None:
    images = random_images(channels=1)
    result = augment(images, drawn(Augmentation(saturation=0.9, hue=0.5)))
    assert torch.equal(result, images.permute(0, 3, 1, 2) / 255)


@pytest.mark.parametrize("channels", [1, 3])
def test_the_result_is_channels_last_within_0_and_1_and_the_input_is_unchanged(
    channels: int,
) -> None:
    images = random_images(channels=channels)
    before = images.clone()
    result = augment(images, drawn(EVERYTHING))
    assert result.shape == (64, channels, 32, 32)
    assert result.is_contiguous(memory_format=torch.channels_last)
    assert result.min() >= 0.0
    assert result.max() <= 1.0
    assert torch.equal(images, before)


def test_equal_images_are_augmented_differently() -> None:
    image = random_images(count=1)
    result = augment(image.repeat(8, 1, 1, 1), drawn(EVERYTHING, count=8))
    pairs = [(first, second) for first in range(8) for second in range(first)]
    assert not any(torch.equal(result[first], result[second]) for first, second in pairs)


def test_the_same_seed_gives_the_same_bits_and_another_does_not() -> None:
    images = random_images()
    first = augment(images, drawn(EVERYTHING, seed=3))
    assert torch.equal(first, augment(images, drawn(EVERYTHING, seed=3)))
    assert not torch.equal(first, augment(images, drawn(EVERYTHING, seed=4)))


def test_a_batch_of_an_epochs_draws_is_the_epochs_batch() -> None:
    images = random_images()
    epoch = drawn(EVERYTHING)
    at_once = augment(images, epoch)
    assert torch.equal(at_once[16:48], augment(images[16:48], epoch[16:48]))
    shuffled = torch.randperm(64, generator=torch.Generator().manual_seed(1))
    assert torch.equal(at_once[shuffled], augment(images[shuffled], epoch[shuffled].to("cpu")))


def test_switching_one_step_off_leaves_the_draws_of_the_others() -> None:
    without = drawn(replace(EVERYTHING, rotation=0.0))
    assert without.angle is None
    assert torch.equal(without.hue, drawn(EVERYTHING).hue)
    assert torch.equal(without.shift_right, drawn(EVERYTHING).shift_right)


def test_draws_fill_their_ranges_evenly() -> None:
    count = 50_000
    draws = drawn(EVERYTHING, count)
    for shift in (draws.shift_down, draws.shift_right):
        frequencies = torch.bincount(shift + 4) / count
        assert len(frequencies) == 9
        # five standard errors of a frequency of 1/9
        assert (frequencies - 1 / 9).abs().max() < 5 * (1 / 9 * 8 / 9 / count) ** 0.5
    assert abs(draws.flip.float().mean() - 0.5) < 5 * 0.5 / count**0.5
    bounds = {"angle": (-15, 15), "brightness": (0.6, 1.4), "contrast": (0.6, 1.4)}
    bounds |= {"saturation": (0.6, 1.4), "hue": (-0.2, 0.2)}
    for name, (low, high) in bounds.items():
        values = getattr(draws, name)
        assert low <= values.min() < low + 0.01 * (high - low)
        assert high - 0.01 * (high - low) < values.max() <= high
        uniform_deviation = (high - low) / 12**0.5
        assert abs(values.mean() - (low + high) / 2) < 5 * uniform_deviation / count**0.5


def test_factors_never_fall_below_zero() -> None:
    assert drawn(Augmentation(brightness=1.5), 1000).brightness.min() >= 0


def test_normalised_images_equal_torchvisions() -> None:
    images = random_images().permute(0, 3, 1, 2) / 255
    mean, std = [0.4914, 0.4822, 0.4465], [0.2470, 0.2435, 0.2616]
    result = normalise(images, torch.tensor(mean), torch.tensor(std))
    torch.testing.assert_close(result, reference.normalize(images, mean, std))


@pytest.mark.parametrize(("count", "size", "channels"), [(5, 8, 1), (50, 32, 3), (2, 224, 3)])
def test_standardised_pixels_equal_torchvisions_to_the_bit_in_however_many_pieces(
    count: int, size: int, channels: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = random_images(count, size, channels)
    mean, std = [0.485, 0.456, 0.406][:channels], [0.229, 0.224, 0.225][:channels]
    scaled = torch.stack([to_tensor(image) for image in pixels.numpy()])
    expected = reference.normalize(scaled, mean, std)
    for at_once in (augmentation.FLOATS_AT_ONCE, 1, pixels.numel() // 2, pixels.numel()):
        monkeypatch.setattr(augmentation, "FLOATS_AT_ONCE", at_once)
        result = standardise(pixels, torch.tensor(mean), torch.tensor(std))
        assert torch.equal(result, expected)
        assert result.is_contiguous(memory_format=torch.channels_last)


# --- random resized crop --------------------------------------------------------------------------


@pytest.mark.parametrize(("size", "channels"), [(32, 3), (31, 1)])
def test_resized_crop_equals_torchvision(size: int, channels: int) -> None:
    images = random_images(size=size, channels=channels)
    draws = drawn(Augmentation(random_resized_crop=0.08), size=size)
    result = augment(images, draws)
    for position, image in enumerate(images.permute(0, 3, 1, 2).float()):
        height, width, top, left = (
            int(getattr(draws, f"crop_{name}")[position])
            for name in ("height", "width", "top", "left")
        )
        expected = reference.resized_crop(
            image, top, left, height, width, [size, size], InterpolationMode.BILINEAR
        )
        assert torch.allclose(result[position], expected / 255, atol=1e-5)


@pytest.mark.parametrize("smallest", [0.08, 0.9])
@pytest.mark.parametrize("size", [8, 32])
def test_resized_crops_are_drawn_as_torchvision_draws_them(smallest: float, size: int) -> None:
    count = 10_000
    draws = drawn(Augmentation(random_resized_crop=smallest), count, size=size)
    torch.manual_seed(0)
    image = torch.zeros(1, size, size)
    theirs = torch.tensor(
        [
            RandomResizedCrop.get_params(image, [smallest, 1.0], [3 / 4, 4 / 3])
            for _ in range(count)
        ],
        dtype=torch.float,
    )  # (count, 4): top, left, height, width
    for column, name in enumerate(("top", "left", "height", "width")):
        ours = getattr(draws, f"crop_{name}")
        # equal distributions: five standard errors of a difference of means, and of a share
        error = 5 * theirs[:, column].std() * (2 / count) ** 0.5
        assert abs(ours.mean() - theirs[:, column].mean()) <= error
        full_size = [(values == size).float().mean() for values in (ours, theirs[:, column])]
        assert abs(full_size[0] - full_size[1]) <= 5 * (0.5 / count) ** 0.5


def test_resized_crop_is_flipped_and_turned_after_it_is_cropped() -> None:
    images = random_images()
    draws = drawn(Augmentation(random_resized_crop=0.3, horizontal_flip=1.0))
    flipped = augment(images, draws)
    plain = augment(images, replace(draws, flip=None))
    assert torch.equal(flipped, reference.horizontal_flip(plain))


# --- CutMix ---------------------------------------------------------------------------------------


def numbered(count: int, size: int = 32) -> Tensor:
    """Images float32 (B, 3, H, W), each filled with its own number."""
    return torch.arange(count).float().view(-1, 1, 1, 1).expand(-1, 3, size, size).contiguous()


def test_cutmix_weights_sum_to_one_and_match_the_pasted_area() -> None:
    count = 64
    draws = drawn(Augmentation(cutmix=1.0))
    mixed, targets = cutmix(numbered(count), torch.arange(count), count, draws)
    assert torch.allclose(targets.sum(1), torch.ones(count))
    for position in range(count):
        shown, pixels = mixed[position, 0].unique(return_counts=True)
        share = dict(zip(shown.long().tolist(), (pixels / 32**2).tolist(), strict=True))
        named = targets[position].nonzero()[:, 0].tolist()
        weights = {k: float(targets[position, k]) for k in named}
        assert weights == pytest.approx(share)
        assert set(share) <= {position, position ^ 1}


def test_cutmix_patch_is_one_rectangle_in_the_same_place_of_all_channels() -> None:
    mixed, _ = cutmix(numbered(64), torch.arange(64), 64, drawn(Augmentation(cutmix=1.0)))
    for position, image in enumerate(mixed):
        pasted = image[0] != position
        rows, columns = pasted.any(1), pasted.any(0)
        assert torch.equal(pasted, rows[:, None] & columns[None, :])
        for flags in (rows, columns):
            assert int(flags.int().diff().abs().sum()) <= 2
        assert all(torch.equal(image[0], channel) for channel in image)


def test_cutmix_comes_as_often_as_asked_and_covers_the_area_of_its_definition() -> None:
    count = 20_000
    draws = drawn(Augmentation(cutmix=0.3), count)
    assert float((draws.patch > 0).float().mean()) == pytest.approx(0.3, abs=0.01)
    patched = draws.patch[draws.patch > 0]
    assert float(patched.mean()) == pytest.approx(0.5, abs=0.01)  # alpha 1: uniform
    assert float(patched.std()) == pytest.approx(12**-0.5, abs=0.01)


def test_odd_image_and_batches_without_patches_stay_as_they_are() -> None:
    images, labels = numbered(5), torch.tensor([0, 1, 2, 0, 1])
    mixed, targets = cutmix(images, labels, 3, drawn(Augmentation(cutmix=1.0), count=5))
    assert torch.equal(mixed[4], images[4])
    assert torch.equal(targets[4], torch.eye(3)[1])
    unmixed, one_hot = cutmix(images, labels, 3, drawn(Augmentation(), count=5))
    assert torch.equal(unmixed, images)
    assert torch.equal(one_hot, torch.eye(3)[labels])


# --- random erasing -------------------------------------------------------------------------------


@pytest.mark.parametrize(("size", "channels"), [(32, 3), (31, 1)])
def test_erased_images_are_torchvisions(size: int, channels: int) -> None:
    images = random_images(size=size, channels=channels).permute(0, 3, 1, 2) / 255
    before, colour = images.clone(), torch.tensor([0.1, 0.2, 0.3][:channels])
    draws = drawn(Augmentation(random_erasing=0.7), size=size)
    result = erase(images, colour, draws)
    assert torch.equal(images, before)
    assert result.is_contiguous(memory_format=torch.channels_last)
    for position, image in enumerate(images):
        top, left, height, width = (
            int(getattr(draws, f"erase_{name}")[position])
            for name in ("top", "left", "height", "width")
        )
        expected = reference.erase(image, top, left, height, width, colour.view(-1, 1, 1))
        assert torch.equal(result[position], expected)
    assert (result != images).flatten(1).any(1).any()
    assert torch.equal(erase(images, colour, Draws()), images)


@pytest.mark.parametrize("size", [8, 32])
def test_rectangles_are_drawn_as_torchvision_draws_them(size: int) -> None:
    count = 10_000
    draws = drawn(Augmentation(random_erasing=1.0), count, size=size)
    torch.manual_seed(0)
    image = torch.zeros(1, size, size)
    theirs = torch.tensor(
        [
            RandomErasing.get_params(image, (0.02, 0.33), (0.3, 3.3), [0.0])[:4]
            for _ in range(count)
        ],
        dtype=torch.float,
    )  # (count, 4): top, left, height, width
    for column, name in enumerate(("top", "left", "height", "width")):
        ours = getattr(draws, f"erase_{name}")
        # equal distributions: five standard errors of a difference of means, and of spreads
        spread = theirs[:, column].std()
        assert abs(ours.mean() - theirs[:, column].mean()) <= 5 * spread * (2 / count) ** 0.5
        assert abs(ours.std() - spread) <= 5 * spread / count**0.5
    some = drawn(Augmentation(random_erasing=0.3), count, size=size)
    erased = some.erase_height * some.erase_width > 0
    assert float(erased.float().mean()) == pytest.approx(0.3, abs=0.02)
    assert torch.equal(some.erase_height[erased], draws.erase_height[erased])


# --- MixUp ----------------------------------------------------------------------------------------


def test_mixup_of_each_pair_is_torchvisions() -> None:
    count = 64
    images = random_images(count).permute(0, 3, 1, 2) / 255
    labels = torch.arange(count) % 5
    draws = drawn(Augmentation(mixup=0.4), count)
    mixed, targets = mixup(images, labels, 5, draws)
    assert mixed.is_contiguous(memory_format=torch.channels_last)
    theirs = MixUp(num_classes=5)
    for position in range(count):
        # torchvision mixes each image of a batch with the one before: of two with the other one
        pair = [position, position ^ 1]
        params = {
            "lam": 1 - float(draws.mixed[position]),
            "labels": labels[pair],
            "batch_size": 2,
        }
        expected = theirs.transform(images[pair], params)[0]
        torch.testing.assert_close(mixed[position], expected)
        expected = theirs.transform(params["labels"], params)[0]
        torch.testing.assert_close(targets[position], expected)


@pytest.mark.parametrize("alpha", [0.2, 1.0, 30.0])
def test_mixup_shares_are_of_the_beta_distribution(alpha: float) -> None:
    shares = drawn(Augmentation(mixup=alpha), 5000).mixed
    assert kstest(shares.double().numpy(), beta(alpha, alpha).cdf).pvalue > 1e-3


def test_mixup_of_the_smallest_alphas_shows_one_image_or_the_other() -> None:
    shares = drawn(Augmentation(mixup=1e-6), 5000).mixed
    assert torch.minimum(shares, 1 - shares).max() < 1e-6
    assert float(shares.mean()) == pytest.approx(0.5, abs=0.04)


def test_mixup_leaves_an_odd_image_and_batches_without_shares() -> None:
    images, labels = numbered(5), torch.tensor([0, 1, 2, 0, 1])
    mixed, targets = mixup(images, labels, 3, drawn(Augmentation(mixup=1.0), count=5))
    assert torch.equal(mixed[4], images[4])
    assert torch.equal(targets[4], torch.eye(3)[1])
    assert torch.allclose(targets.sum(1), torch.ones(5))
    unmixed, one_hot = mixup(images, labels, 3, Draws())
    assert torch.equal(unmixed, images)
    assert torch.equal(one_hot, torch.eye(3)[labels])


def test_every_new_step_leaves_the_draws_of_the_others_as_they_were() -> None:
    alone = drawn(Augmentation(cutmix=0.5))
    everything = {"random_resized_crop": 0.1, "cutmix": 0.5, "random_erasing": 0.5, "mixup": 0.5}
    together = drawn(replace(EVERYTHING, **everything))
    for name in ("patch", "patch_row", "patch_column"):
        assert torch.equal(getattr(alone, name), getattr(together, name))
    assert torch.equal(drawn(EVERYTHING).angle, together.angle)
    assert torch.equal(drawn(Augmentation(random_resized_crop=0.1)).crop_top, together.crop_top)
    assert torch.equal(drawn(Augmentation(random_erasing=0.5)).erase_top, together.erase_top)
    assert torch.equal(drawn(Augmentation(mixup=0.5)).mixed, together.mixed)
