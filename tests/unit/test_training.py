"""Training: what is drawn, what is chosen, and that nothing but the stated input decides."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, log_loss
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from pipeline.data.arrays import Dataset
from pipeline.data.augmentation import Augmentation
from pipeline.models import registry
from pipeline.settings import presets
from pipeline.settings.schema import Compute, Train
from pipeline.storage.records import MadeFrom, Provenance
from pipeline.system.errors import InputError, StageError
from pipeline.training import batches, compute
from pipeline.training.batches import (
    Images,
    plain_batches,
    steps_per_epoch,
    to_device,
    training_batches,
)
from pipeline.training.compute import Hardware
from pipeline.training.distributed.group import share_of
from pipeline.training.learner import Learner
from pipeline.training.loop import Epoch, Trained, measure, train
from pipeline.training.randomness import derive, generator
from pipeline.training.recipe import OPTIMIZERS, l1_penalty
from pipeline.training.weights import check_recipe, load_weights, save_weights

SETTINGS = presets.load("smoke")
RECIPE = MadeFrom(settings={}, code={}, inputs={})
MINE = Provenance(splits="mine", seed=0, made_from=RECIPE)
CPU = Hardware(torch.device("cpu"), "fp32", 1, "a CPU")
PLAIN = Augmentation()


def recipe(**changes: object) -> Train:
    """The smoke preset's recipe with some settings changed."""
    return Train.model_validate(SETTINGS.train.model_dump() | changes)


def without_augmentation() -> dict[str, float]:
    return dict.fromkeys(SETTINGS.train.augmentation.model_dump(), 0)


@pytest.fixture
def dataset() -> Dataset:
    """Images whose class is seen in their brightness, with noise: 60 / 40 / 20 of them."""
    random = np.random.default_rng(0)
    split = np.repeat(["train", "validation", "test"], [60, 40, 20])
    labels = random.integers(0, 3, len(split))
    noise = random.integers(0, 60, (len(split), 8, 8, 1))
    images = (noise + 60 * labels[:, None, None, None]).astype(np.uint8)
    return Dataset(
        name="made for the test",
        images=images,
        labels=labels,
        ids=np.arange(len(split)),
        split=split,
        classes=("dark", "grey", "bright"),
        mean=np.array([0.35], np.float32),
        std=np.array([0.2], np.float32),
        counts={},
        rejected=0,
    )


def network(name: str = "ca_cnn", seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return registry.build(SETTINGS.architectures[name].model_dump(), 3, 8, 1)


def trained_weights(dataset: Dataset, seed: int = 0, **changes: object) -> dict[str, torch.Tensor]:
    device = torch.device("cpu")
    parts = [to_device(dataset, split, device) for split in ("train", "validation")]
    return train(network(), parts[0], parts[1], recipe(**changes), seed, CPU).weights


def equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


# --- random streams -------------------------------------------------------------------------------


def test_streams_differ_by_seed_epoch_and_purpose() -> None:
    keys = [(0, 1, "order"), (1, 1, "order"), (0, 2, "order"), (0, 1, "dropout"), (0, 11, "order")]
    assert len({derive(*key) for key in keys}) == len(keys)


def test_stream_needs_no_saved_state() -> None:
    first = torch.rand(3, generator=generator(3, 7, "order"))
    torch.rand(100)
    assert torch.equal(first, torch.rand(3, generator=generator(3, 7, "order")))


# --- batches --------------------------------------------------------------------------------------


def counted(count: int) -> Images:
    """Images that carry their own number in every pixel and as their label."""
    numbers = torch.arange(count)
    pixels = numbers.to(torch.uint8).view(-1, 1, 1, 1).expand(-1, 4, 4, 1).contiguous()
    return Images(pixels, numbers, numbers, torch.zeros(1), torch.ones(1), num_classes=count)


def order_of(count: int, epoch: int, seed: int = 0) -> list[int]:
    batches = training_batches(counted(count), 16, PLAIN, seed, epoch)
    return torch.cat([labels for _, labels in batches]).tolist()


def test_every_image_comes_once_an_epoch_in_an_order_of_its_own() -> None:
    first, second = order_of(50, epoch=1), order_of(50, epoch=2)
    assert sorted(first) == sorted(second) == list(range(50))
    assert first != second
    assert first == order_of(50, epoch=1)
    assert first != order_of(50, epoch=1, seed=1)


def test_images_stay_with_their_labels() -> None:
    for images, labels in training_batches(counted(50), 16, PLAIN, 0, 1):
        assert torch.equal((images[:, 0, 0, 0] * 255).round().long(), labels)


def test_last_batch_of_a_single_image_is_left_out() -> None:
    # batch norm can't be trained on one image where its maps have one pixel
    assert len(order_of(49, epoch=1)) == 48
    assert len(order_of(50, epoch=1)) == 50


@pytest.mark.parametrize("count", [1, 16, 17, 18, 49, 50])
def test_steps_are_counted_as_they_are_taken(count: int) -> None:
    taken = list(training_batches(counted(count), 16, PLAIN, 0, 1))
    assert steps_per_epoch(counted(count), 16) == len(taken)


def test_images_on_the_cpu_are_mapped_and_not_copied(tmp_path: Path, dataset: Dataset) -> None:
    np.save(tmp_path / "images.npy", dataset.images)
    mapped = np.load(tmp_path / "images.npy", mmap_mode="r")
    on_disk = dataclasses.replace(dataset, images=mapped)
    data = to_device(on_disk, "validation", torch.device("cpu"))
    assert data.images.data_ptr() == mapped.ctypes.data
    expected = dataset.images[dataset.rows("validation")]
    assert np.array_equal(data.pixels(slice(None)).numpy(), expected)
    part = data.subset(torch.tensor([5, 2]))
    assert np.array_equal(part.pixels(torch.tensor([1, 0])).numpy(), expected[[2, 5]])
    assert part.labels.tolist() == dataset.labels[dataset.rows("validation")][[5, 2]].tolist()


@pytest.mark.parametrize("count", [49, 50, 96])
@pytest.mark.parametrize("mixing", [{}, {"cutmix": 1.0}, {"mixup": 0.4}], ids=str)
def test_batches_that_are_prepared_together_are_those_prepared_one_by_one(
    monkeypatch: pytest.MonkeyPatch, count: int, mixing: dict[str, float]
) -> None:
    drawn = Augmentation(
        crop_padding=1, horizontal_flip=0.5, brightness=0.2, random_erasing=0.5, **mixing
    )
    alone = list(training_batches(counted(count), 16, drawn, 0, 1))
    monkeypatch.setattr(batches, "_images_at_once", lambda *_: 3 * 16)
    together = list(training_batches(counted(count), 16, drawn, 0, 1))
    for (ours, targets), (theirs, expected) in zip(together, alone, strict=True):
        assert torch.equal(ours, theirs)
        assert torch.equal(targets, expected)


@pytest.mark.parametrize(
    ("batch_size", "mixing", "processes", "expected"),
    [
        (16, {}, 1, 16 * 4096),  # 2**22 pixels in images of 8 x 8
        (16, {"cutmix": 1.0}, 1, 16 * 4096),
        (15, {}, 1, 15 * 4369),
        (15, {"cutmix": 1.0}, 1, 15),  # an odd batch ends within a pair
        (15, {"mixup": 1.0}, 1, 15),
        (16, {}, 2, 16),  # of each batch a process has its part
        (2, {}, 2, 2),
    ],
)
def test_gpu_prepares_many_full_batches_at_once(
    batch_size: int, mixing: dict[str, float], processes: int, expected: int
) -> None:
    data = SimpleNamespace(labels=SimpleNamespace(is_cuda=True), images=torch.empty(1, 8, 8, 3))
    for rank in range(processes):
        share = partial(share_of, rank=rank, count=processes)
        found = batches._images_at_once(data, batch_size, Augmentation(**mixing), share)
        assert found == expected


def test_erased_pixels_are_of_the_mean_colour() -> None:
    data = dataclasses.replace(counted(48), mean=torch.tensor([0.3]), std=torch.tensor([0.5]))
    plain, erased = (
        torch.cat([images for images, _ in training_batches(data, 16, augmentation, 0, 1)])
        for augmentation in (PLAIN, Augmentation(random_erasing=1.0))
    )
    differs = erased != plain
    assert differs.any()
    assert (erased[differs] == 0).all()  # normalised: the training split's mean


@pytest.mark.parametrize("mixing", [Augmentation(cutmix=1.0), Augmentation(mixup=0.4)])
def test_mixed_labels_reach_the_loop_as_probabilities(mixing: Augmentation) -> None:
    batches = training_batches(counted(48), 16, mixing, 0, 1)
    for _, targets in batches:
        assert ((targets > 0) & (targets < 1)).any()
        assert targets.shape == (16, 48)
        assert torch.allclose(targets.sum(1), torch.ones(16))


def test_plain_batches_are_normalised_and_in_order() -> None:
    data = dataclasses.replace(counted(40), mean=torch.tensor([0.1]), std=torch.tensor([0.5]))
    batches = list(plain_batches(data, 16))
    assert [len(labels) for _, labels in batches] == [16, 16, 8]
    assert torch.cat([labels for _, labels in batches]).tolist() == list(range(40))
    assert batches[1][0][3, 0, 2, 2].item() == pytest.approx((19 / 255 - 0.1) / 0.5, abs=1e-6)


# --- the loop -------------------------------------------------------------------------------------


def test_same_input_gives_the_same_bits_and_another_seed_others(dataset: Dataset) -> None:
    weights = trained_weights(dataset)
    assert equal(weights, trained_weights(dataset))
    assert not equal(weights, trained_weights(dataset, seed=1))


def test_test_split_has_no_influence(dataset: Dataset) -> None:
    rows = dataset.rows("test")
    images, labels = dataset.images.copy(), dataset.labels.copy()
    images[rows], labels[rows] = 255 - images[rows], 0
    changed = dataclasses.replace(dataset, images=images, labels=labels)
    assert equal(trained_weights(dataset), trained_weights(changed))


def test_loop_equals_the_textbook_loop(dataset: Dataset) -> None:
    settings = recipe(
        epochs=1, batch_size=16, schedule="fixed", augmentation=without_augmentation()
    )
    training = to_device(dataset, "train", torch.device("cpu"))
    validation = to_device(dataset, "validation", torch.device("cpu"))
    found = train(network(), training, validation, settings, 5, CPU)

    expected = network()
    expected.train()
    rate = settings.learning_rate
    optimizer = torch.optim.Adam(expected.parameters(), lr=rate, fused=True)
    order = torch.randperm(60, generator=generator(5, 1, "order"))
    inputs = training.images.permute(0, 3, 1, 2).float() / 255
    torch.manual_seed(derive(5, 1, "dropout"))
    losses = []
    for rows in order.split(16):
        loss = nn.functional.cross_entropy(
            expected((inputs[rows] - 0.35) / 0.2), training.labels[rows]
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses += [loss.item()] * len(rows)
    for name, tensor in expected.state_dict().items():
        torch.testing.assert_close(found.weights[name], tensor, rtol=1e-4, atol=1e-5)
    assert found.history[0].train_loss == pytest.approx(np.mean(losses), rel=1e-4)


def test_training_learns_what_can_be_seen(dataset: Dataset) -> None:
    training = to_device(dataset, "train", torch.device("cpu"))
    validation = to_device(dataset, "validation", torch.device("cpu"))
    settings = recipe(epochs=15, learning_rate=0.01, augmentation=without_augmentation())
    assert train(network(), training, validation, settings, 0, CPU).best.validation_accuracy > 0.95


def epoch(number: int, accuracy: float, loss: float) -> Epoch:
    return Epoch(number, 0.0, 0.0, loss, accuracy, 0.1, 1.0)


def test_best_epoch_is_the_most_accurate_then_the_one_of_least_loss_then_the_first() -> None:
    for epochs, best in [
        ([(0.8, 0.1), (0.9, 0.5)], 2),
        ([(0.9, 0.5), (0.9, 0.4)], 2),
        ([(0.9, 0.5), (0.9, 0.5)], 1),
        ([(0.0, 9.0)], 1),
    ]:
        history = tuple(epoch(number, *values) for number, values in enumerate(epochs, start=1))
        assert Trained(history, {}, False).best.epoch == best


def test_kept_weights_are_the_best_epochs_and_not_the_last(dataset: Dataset) -> None:
    training = to_device(dataset, "train", torch.device("cpu"))
    validation = to_device(dataset, "validation", torch.device("cpu"))
    # what is learnt is wrong for this validation split, so it gets worse with every epoch
    validation = dataclasses.replace(validation, labels=(validation.labels + 1) % 3)
    settings = recipe(epochs=8, learning_rate=0.01, schedule="fixed")
    result = train(network(), training, validation, settings, 0, CPU)
    assert result.best == max(
        result.history, key=lambda e: (e.validation_accuracy, -e.validation_loss)
    )
    assert result.best.epoch < 8
    kept = network()
    kept.load_state_dict(result.weights)
    loss, accuracy = measure(kept, plain_batches(validation, 256), CPU)
    assert accuracy == result.best.validation_accuracy
    assert loss == pytest.approx(result.best.validation_loss, rel=1e-6)


def test_measured_loss_and_accuracy_are_scikit_learns(dataset: Dataset) -> None:
    test = to_device(dataset, "test", torch.device("cpu"))
    model = network().eval()
    with torch.no_grad():
        logits = torch.cat([model(images) for images, _ in plain_batches(test, 7)])
    loss, accuracy = measure(model, plain_batches(test, 7), CPU)
    probabilities = logits.double().softmax(1).numpy()
    assert loss == pytest.approx(log_loss(test.labels, probabilities, labels=[0, 1, 2]), rel=1e-5)
    assert accuracy == accuracy_score(test.labels, logits.argmax(1))


def test_loss_that_is_no_number_ends_the_run_with_what_to_change(dataset: Dataset) -> None:
    with pytest.raises(StageError, match=r"no longer a number.*train\.learning_rate"):
        trained_weights(dataset, optimizer="sgd", learning_rate=1e6)


@pytest.mark.parametrize(
    ("name", "kind"),
    [("adam", torch.optim.Adam), ("adamw", torch.optim.AdamW), ("sgd", torch.optim.SGD)],
)
def test_optimizer_is_pytorchs_with_the_given_values(name: str, kind: type) -> None:
    settings = recipe(optimizer=name, learning_rate=0.3, weight_decay=0.02, momentum=0.7)
    optimizer = OPTIMIZERS[name](nn.Linear(1, 1).parameters(), settings)
    assert type(optimizer) is kind
    assert (optimizer.defaults["lr"], optimizer.defaults["weight_decay"]) == (0.3, 0.02)
    assert optimizer.defaults.get("momentum", 0.7) == 0.7


@pytest.mark.parametrize("momentum", [0.0, 0.7])
@pytest.mark.parametrize("nesterov", [True, False])
def test_sgd_looks_ahead_where_it_is_told_to_and_has_momentum(
    momentum: float, nesterov: bool
) -> None:
    settings = recipe(optimizer="sgd", learning_rate=0.3, momentum=momentum, nesterov=nesterov)
    weight = nn.Parameter(torch.ones(1))
    optimizer = OPTIMIZERS["sgd"]([weight], settings)
    expected, velocity = 1.0, 0.0
    for gradient in (1.0, 2.0, -4.0):
        weight.grad = torch.tensor([gradient])
        optimizer.step()
        velocity = momentum * velocity + gradient
        expected -= 0.3 * (gradient + momentum * velocity if nesterov else velocity)
    assert weight.item() == pytest.approx(expected)


def test_clipped_gradient_has_the_given_norm_and_its_direction(dataset: Dataset) -> None:
    training, validation = (
        to_device(dataset, name, torch.device("cpu")) for name in ("train", "validation")
    )
    plain = {"optimizer": "sgd", "momentum": 0.0, "schedule": "fixed", "learning_rate": 1.0}
    plain |= {"epochs": 1, "batch_size": 60, "l1": 0.01}

    def step(**changes: object) -> torch.Tensor:
        """What one step of rate 1 subtracts from the weights: the gradient."""
        model = network()
        before = nn.utils.parameters_to_vector(model.parameters()).detach().clone()
        train(model, training, validation, recipe(**plain | changes), 0, CPU)
        return before - nn.utils.parameters_to_vector(model.parameters()).detach()

    gradient = step()
    norm = float(gradient.norm())
    clipped = step(clip_norm=norm / 3)
    assert float(clipped.norm()) == pytest.approx(norm / 3, rel=1e-3)
    torch.testing.assert_close(clipped, gradient / 3, rtol=1e-3, atol=1e-6)
    assert torch.equal(step(clip_norm=2 * norm), gradient)


def test_averaged_weights_and_statistics_are_pytorchs(dataset: Dataset) -> None:
    model = network()
    training = to_device(dataset, "train", torch.device("cpu"))
    settings = recipe(batch_size=16, learning_rate=0.05, ema=0.9)
    learner = Learner(model, training, settings, CPU)
    reference = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.9), use_buffers=True)
    for epoch_number in (1, 2):
        for _ in learner.epoch(0, epoch_number):
            reference.update_parameters(model)
    assert learner.average is not None
    averages = learner.average.network.state_dict()
    for name, expected in reference.module.state_dict().items():
        if expected.is_floating_point():
            assert torch.equal(averages[name], expected), name
            assert not torch.equal(averages[name], model.state_dict()[name]), name
        else:  # a number of batches: there is no half of one
            assert torch.equal(averages[name], model.state_dict()[name])


def test_averaged_weights_are_those_that_are_validated_and_kept(dataset: Dataset) -> None:
    training, validation = (
        to_device(dataset, name, torch.device("cpu")) for name in ("train", "validation")
    )
    model = network()
    settings = recipe(epochs=4, batch_size=16, schedule="fixed", ema=0.8)
    result = train(model, training, validation, settings, 0, CPU)
    kept = network()
    kept.load_state_dict(result.weights)
    loss, accuracy = measure(kept, plain_batches(validation, 256), CPU)
    assert accuracy == result.best.validation_accuracy
    assert loss == pytest.approx(result.best.validation_loss, rel=1e-6)
    # the weights that take the steps are those of a training that averages nothing
    plain = network()
    train(plain, training, validation, settings.model_copy(update={"ema": None}), 0, CPU)
    assert equal(model.state_dict(), plain.state_dict())


def test_maps_of_one_pixel_give_the_same_bits_in_bf16(dataset: Dataset) -> None:
    device = torch.device("cpu")
    training, validation = (to_device(dataset, name, device) for name in ("train", "validation"))
    settings = SETTINGS.architectures["cnn"].model_dump()
    settings |= {"pooling": "strided_conv", "channels": [8, 16, 16, 32]}

    def weights() -> dict[str, torch.Tensor]:
        torch.manual_seed(0)
        model = registry.build(settings, 3, 8, 1)
        hardware = dataclasses.replace(CPU, precision="bf16")
        return train(model, training, validation, recipe(epochs=3), 0, hardware).weights

    first = weights()
    assert all(tensor.isfinite().all() for tensor in first.values())
    assert all(equal(first, weights()) for _ in range(3))


def test_validation_loss_is_not_smoothed(dataset: Dataset) -> None:
    training = to_device(dataset, "train", torch.device("cpu"))
    validation = to_device(dataset, "validation", torch.device("cpu"))
    result = train(network(), training, validation, recipe(label_smoothing=0.5), 0, CPU)
    kept = network()
    kept.load_state_dict(result.weights)
    loss, _ = measure(kept, plain_batches(validation, 256), CPU)
    assert result.best.validation_loss == pytest.approx(loss, rel=1e-6)


def test_early_stopping_waits_for_its_patience_and_keeps_the_best(dataset: Dataset) -> None:
    training = to_device(dataset, "train", torch.device("cpu"))
    validation = to_device(dataset, "validation", torch.device("cpu"))
    # what is learnt is wrong for this validation split, so its loss rises from the start
    validation = dataclasses.replace(validation, labels=(validation.labels + 1) % 3)
    settings = recipe(epochs=30, learning_rate=0.01, schedule="fixed", early_stopping=2)
    result = train(network(), training, validation, settings, 0, CPU)
    losses = [epoch.validation_loss for epoch in result.history]
    least = losses.index(min(losses))
    assert result.stopped_early
    assert len(losses) == least + 1 + 3 < 30  # the third epoch without a better one is the last
    alone = train(
        network(), training, validation, recipe(epochs=len(losses), learning_rate=0.01), 0, CPU
    )
    assert not alone.stopped_early
    assert equal(alone.weights, result.weights)


def test_l1_penalty_makes_weights_small_and_is_not_in_the_reported_loss(dataset: Dataset) -> None:
    training = to_device(dataset, "train", torch.device("cpu"))
    validation = to_device(dataset, "validation", torch.device("cpu"))

    def size_and_loss(l1: float) -> tuple[float, float]:
        settings = recipe(l1=l1, epochs=1, batch_size=60, learning_rate=1e-3)
        model = network()
        first = train(model, training, validation, settings, 0, CPU).history[0].train_loss
        return l1_penalty(model).item(), first

    (plain, loss), (penalised, penalised_loss) = size_and_loss(0.0), size_and_loss(1.0)
    assert penalised < plain
    assert penalised_loss == loss  # of the one step, before it is taken


def test_l1_penalty_is_the_sum_of_absolute_weights_without_biases_and_norms() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(2, 1))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(-3.0)
    assert l1_penalty(model).item() == 3 * (2 + 2)


# --- hardware -------------------------------------------------------------------------------------


def test_precision_and_threads_are_what_was_asked_for() -> None:
    before = torch.get_num_threads()
    try:
        for precision in ("fp32", "bf16"):
            settings = Compute(device="cpu", precision=precision, threads=2)
            with compute.prepare(settings) as hardware, hardware.autocast():
                assert torch.get_num_threads() == hardware.threads == 2
                product = torch.ones(2, 2) @ torch.ones(2, 2)
                assert (product.dtype == torch.bfloat16) == (precision == "bf16")
    finally:
        torch.set_num_threads(before)


def test_precision_auto_is_bf16_only_where_the_processor_has_it() -> None:
    with compute.prepare(Compute(device="cpu", precision="auto", threads=1)) as hardware:
        flags = Path("/proc/cpuinfo").read_text().split()
        has_it = "avx512_bf16" in flags or "amx_bf16" in flags
        assert hardware.precision == ("bf16" if has_it else "fp32")


# --- weights --------------------------------------------------------------------------------------


def test_weights_come_back_and_the_same_weights_give_the_same_bytes(tmp_path: Path) -> None:
    model, other = network(seed=1), network(seed=2)
    save_weights(model.state_dict(), tmp_path / "a", MINE)
    channels_last = model.to(memory_format=torch.channels_last)
    save_weights(channels_last.state_dict(), tmp_path / "b", MINE)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    load_weights(other, tmp_path / "a", "mine", SETTINGS)
    assert equal(model.state_dict(), other.state_dict())


def test_corrupt_missing_or_foreign_weights_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    with pytest.raises(InputError, match="no such file"):
        load_weights(network(), path, "mine", SETTINGS)
    save_weights(network().state_dict(), path, MINE)
    with pytest.raises(InputError, match="another architecture"):
        load_weights(network("se_densenet"), path, "mine", SETTINGS)
    with pytest.raises(InputError, match="trained on other splits"):
        load_weights(network(), path, "yours", SETTINGS)
    path.write_bytes(path.read_bytes()[:-7])
    with pytest.raises(InputError, match="can't be read as safetensors"):
        load_weights(network(), path, "mine", SETTINGS)


def a_nan(weight: torch.Tensor) -> torch.Tensor:
    weight.view(-1)[3] = torch.nan
    return weight


@pytest.mark.parametrize(
    ("name", "spoilt", "message"),
    [
        ("block1.conv.weight", a_nan, "block1.conv.weight holds a value that is not finite"),
        ("block1.conv.bias", lambda bias: bias / 0, "block1.conv.bias holds a value that is not f"),
        ("block1.norm.running_var", torch.neg, "block1.norm.running_var holds a value below 0"),
        (
            "block2.conv.weight",
            torch.Tensor.cfloat,
            "is of torch.complex64, expected torch.float32",
        ),
        ("block2.conv.weight", torch.Tensor.double, "is of torch.float64, expected torch.float32"),
        ("block2.conv.weight", torch.Tensor.bfloat16, "is of torch.bfloat16, expected torch.float"),
        ("block1.norm.num_batches_tracked", torch.Tensor.float, "is of torch.float32, expected t"),
    ],
)
def test_weights_that_no_training_leaves_are_refused_by_name(
    name: str, spoilt: Callable[[torch.Tensor], torch.Tensor], message: str, tmp_path: Path
) -> None:
    state = {key: value.clone() for key, value in network().state_dict().items()}
    state[name] = spoilt(state[name])
    save_weights(state, tmp_path / "weights", MINE)
    with pytest.raises(InputError, match=re.escape(message)) as refused:
        load_weights(network(), tmp_path / "weights", "mine", SETTINGS)
    assert name in str(refused.value)
    assert str(tmp_path / "weights") in str(refused.value)


@pytest.mark.parametrize(
    ("seed", "code", "message"),
    [
        (1, {}, "is of seed 0, not of 1"),
        (0, {"pipeline/training": "other"}, "was trained by other code than that in"),
    ],
)
def test_weights_of_another_seed_or_code_are_not_evaluated(
    seed: int, code: dict[str, str], message: str, tmp_path: Path
) -> None:
    save_weights(network().state_dict(), tmp_path / "weights", MINE)
    assert check_recipe(tmp_path / "weights", SETTINGS, "ca_cnn", 0, {}) == RECIPE
    with pytest.raises(InputError, match=f"{message}.*--single-item train@ca_cnn-{seed}"):
        check_recipe(tmp_path / "weights", SETTINGS, "ca_cnn", seed, code)


def test_weights_of_other_layers_with_the_same_shapes_are_refused(tmp_path: Path) -> None:
    recorded = {"architectures.ca_cnn": SETTINGS.architectures["ca_cnn"].model_dump(mode="json")}
    recorded["architectures.ca_cnn"]["activation"] = "mish"
    recipe = MadeFrom(settings=recorded, code={}, inputs={})
    provenance = Provenance(splits="mine", seed=0, made_from=recipe)
    save_weights(network().state_dict(), tmp_path / "weights", provenance)
    message = "under other settings .* architectures.ca_cnn.activation: 'mish', now 'relu'; run"
    with pytest.raises(InputError, match=message):
        load_weights(network(), tmp_path / "weights", "mine", SETTINGS)


@pytest.mark.parametrize(
    "shortage",
    [
        MemoryError("no more"),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB\nmore lines"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_memory_shortage_is_reported_with_what_to_change(shortage: Exception) -> None:
    settings = Compute(device="cpu", precision="fp32", threads=1)
    with (
        pytest.raises(StageError, match=r"out of memory on this machine.*train\.batch_size"),
        compute.prepare(settings),
    ):
        raise shortage


def test_other_errors_stay_what_they_are() -> None:
    settings = Compute(device="cpu", precision="fp32", threads=1)
    with pytest.raises(RuntimeError, match="a defect"), compute.prepare(settings):
        raise RuntimeError("a defect")
