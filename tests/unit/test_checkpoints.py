"""An interrupted training ends with the bits of an undisturbed one, whatever lies on the disk."""

from __future__ import annotations

import hashlib
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from pipeline.data.arrays import Dataset
from pipeline.models import registry
from pipeline.settings import presets
from pipeline.settings.schema import Train
from pipeline.training.batches import to_device
from pipeline.training.checkpoints import Checkpoints, key_of
from pipeline.training.compute import Hardware
from pipeline.training.finished_checkpoints import remove_finished
from pipeline.training.loop import Epoch, Trained, train

SETTINGS = presets.load("smoke")
DEVICE = torch.device("cpu")
CPU = Hardware(DEVICE, "fp32", 1, "a CPU")
EPOCHS = 6


class KilledError(Exception):
    """Stands in for a signal: it ends the run between two steps."""


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    random = np.random.default_rng(0)
    split = np.repeat(["train", "validation"], [48, 24])
    labels = random.integers(0, 3, len(split))
    noise = random.integers(0, 120, (len(split), 8, 8, 1))
    return Dataset(
        name="made for the test",
        images=(noise + 60 * labels[:, None, None, None]).astype(np.uint8),
        labels=labels,
        ids=np.arange(len(split)),
        split=split,
        classes=("dark", "grey", "bright"),
        mean=np.array([0.35], np.float32),
        std=np.array([0.2], np.float32),
        counts={},
        rejected=0,
    )


def run(
    dataset: Dataset,
    checkpoints: Checkpoints | None = None,
    killed_after: int | None = None,
    **changes: object,
) -> Trained:
    """Train for `EPOCHS`; with `killed_after`, only until that many steps are taken."""
    given = {"epochs": EPOCHS, "batch_size": 16}
    recipe = Train.model_validate(SETTINGS.train.model_dump() | given | changes)
    torch.manual_seed(0)
    network: nn.Module = registry.build(SETTINGS.architectures["ca_cnn"].model_dump(), 3, 8, 1)
    steps = 0

    def count(_epoch: int, _images: int) -> None:
        nonlocal steps
        steps += 1
        if steps == killed_after:
            raise KilledError

    training, validation = (to_device(dataset, name, DEVICE) for name in ("train", "validation"))
    return train(network, training, validation, recipe, 0, CPU, checkpoints, on_step=count)


def same_bits(one: Trained, other: Trained) -> bool:
    def without_time(epoch: Epoch) -> tuple[float, ...]:
        return (epoch.train_loss, epoch.validation_loss, epoch.learning_rate)

    return (
        one.weights.keys() == other.weights.keys()
        and all(torch.equal(one.weights[key], other.weights[key]) for key in one.weights)
        and list(map(without_time, one.history)) == list(map(without_time, other.history))
    )


RECIPES = {
    "adam on a plateau": {"schedule": "plateau", "plateau": {"factor": 0.5, "patience": 0}},
    "sgd with one cycle and cutmix": {
        "optimizer": "sgd",
        "learning_rate": 0.05,
        "schedule": "one_cycle",
        "augmentation": SETTINGS.train.augmentation.model_dump() | {"cutmix": 0.7},
    },
    "averaged weights, clipped, in steps, erasing and mixup": {
        "augmentation": SETTINGS.train.augmentation.model_dump()
        | {"random_erasing": 0.5, "mixup": 0.4},
        "ema": 0.9,
        "clip_norm": 0.5,
        "schedule": "step",
        "step": {"every": 2, "factor": 0.3},
    },
    "adamw, warm-up, cosine, early stopping": {
        "optimizer": "adamw",
        "schedule": "cosine",
        "warmup_epochs": 2,
        "early_stopping": 2,
    },
}


@pytest.mark.parametrize("name", RECIPES)
def test_killed_training_resumes_to_the_same_weights(
    name: str, dataset: Dataset, tmp_path: Path
) -> None:
    undisturbed = run(dataset, **RECIPES[name])
    for killed_after in (1, 4, 8, 10):
        checkpoints = Checkpoints(tmp_path / str(killed_after), "key")
        with pytest.raises(KilledError):
            run(dataset, checkpoints, killed_after, **RECIPES[name])
        resumed_at = checkpoints.latest(DEVICE)
        assert (resumed_at[0] if resumed_at else 0) == (killed_after - 1) // 3
        assert same_bits(run(dataset, checkpoints, **RECIPES[name]), undisturbed)


def test_training_killed_again_and_again_comes_to_the_same_end(
    dataset: Dataset, tmp_path: Path
) -> None:
    checkpoints = Checkpoints(tmp_path / "run", "key")
    for _ in range(EPOCHS - 1):
        with pytest.raises(KilledError):
            run(dataset, checkpoints, killed_after=5)  # the second step of the next epoch
    assert same_bits(run(dataset, checkpoints), run(dataset))


def test_run_killed_after_its_last_epoch_has_nothing_left_to_do(
    dataset: Dataset, tmp_path: Path
) -> None:
    checkpoints = Checkpoints(tmp_path / "run", "key")
    first = run(dataset, checkpoints)
    assert same_bits(run(dataset, checkpoints, killed_after=1), first)


def test_two_generations_are_kept_and_all_removed_when_the_result_is_safe(
    dataset: Dataset, tmp_path: Path
) -> None:
    checkpoints = Checkpoints(tmp_path / "cnn-0-key", "key")
    run(dataset, checkpoints)
    names = sorted(path.name for path in (tmp_path / "cnn-0-key").iterdir())
    assert names == ["epoch-000005.pt", "epoch-000006.pt"]
    remove_finished(tmp_path, "cnn-0")
    assert (tmp_path / "cnn-0-key").exists()  # not yet marked as finished
    checkpoints.finish()
    remove_finished(tmp_path, "cnn-1")
    remove_finished(tmp_path, "ca_cnn-0")
    assert (tmp_path / "cnn-0-key").exists()
    remove_finished(tmp_path, "cnn-0")
    assert not (tmp_path / "cnn-0-key").exists()


class Evil:
    """Unpickling it would make a file."""

    def __reduce__(self) -> tuple[object, ...]:
        return (Path("executed").touch, ())


CORRUPT = {
    "cut off": lambda content: content[: len(content) // 2],
    "empty": lambda content: b"",
    "one bit flipped": lambda content: content[:-9] + bytes([content[-9] ^ 1]) + content[-8:],
    "another format": lambda content: b"not a checkpoint at all",
    "a pickle that runs code": lambda content: pickle.dumps(Evil()),
}


@pytest.mark.parametrize("how", CORRUPT)
def test_corrupt_checkpoint_is_passed_over_with_a_warning(
    how: str,
    dataset: Dataset,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    checkpoints = Checkpoints(tmp_path / "run", "key")
    with pytest.raises(KilledError):
        run(dataset, checkpoints, killed_after=10)
    newest = tmp_path / "run" / "epoch-000003.pt"
    newest.write_bytes(CORRUPT[how](newest.read_bytes()))
    found = checkpoints.latest(DEVICE)
    assert found is not None
    assert found[0] == 2
    message = capsys.readouterr().err
    assert message.startswith(f"warning: checkpoint {newest} is not used: ")
    assert message.count("\n") == 1
    assert not Path("executed").exists()
    assert same_bits(run(dataset, checkpoints), run(dataset))


def test_both_generations_corrupt_begin_again(
    dataset: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoints = Checkpoints(tmp_path / "run", "key")
    with pytest.raises(KilledError):
        run(dataset, checkpoints, killed_after=10)
    for path in (tmp_path / "run").iterdir():
        path.write_bytes(path.read_bytes()[:-1])
    assert checkpoints.latest(DEVICE) is None
    assert capsys.readouterr().err.count("it is corrupt") == 2
    # what the run that began again saves is not taken for older than what is corrupt
    with pytest.raises(KilledError):
        run(dataset, checkpoints, killed_after=5)
    found = checkpoints.latest(DEVICE)
    assert found is not None
    assert found[0] == 1
    assert same_bits(run(dataset, checkpoints), run(dataset))


def test_checkpoint_of_another_run_is_refused_with_a_warning(
    dataset: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = Checkpoints(tmp_path / "other", "other key")
    with pytest.raises(KilledError):
        run(dataset, other, killed_after=10, learning_rate=0.5)
    shutil.copytree(tmp_path / "other", tmp_path / "run")
    mine = Checkpoints(tmp_path / "run", "my key")
    assert mine.latest(DEVICE) is None
    assert "of another run" in capsys.readouterr().err
    assert same_bits(run(dataset, mine), run(dataset))


def test_what_a_killed_save_left_is_no_checkpoint_and_goes(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path / "run", "key")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / ".incomplete-0123456789ab").write_bytes(b"half")
    assert checkpoints.latest(DEVICE) is None
    assert not list((tmp_path / "run").iterdir())


def test_checkpoint_that_can_not_be_written_is_reported_once_and_stops_nothing(
    dataset: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "in the way").touch()
    checkpoints = Checkpoints(tmp_path / "in the way" / "run", "key")
    assert same_bits(run(dataset, checkpoints), run(dataset))
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    assert f"warning: {tmp_path / 'in the way' / 'run'}: no checkpoint can be written" in message


def test_error_without_words_is_reported_by_its_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "epoch-000001.pt").write_bytes(hashlib.sha256(b"").digest())
    assert Checkpoints(tmp_path, "key").latest(DEVICE) is None
    assert "EOFError" in capsys.readouterr().err


def test_key_knows_settings_and_code(tmp_path: Path) -> None:
    code = tmp_path / "code"
    code.mkdir()
    (code / "module.py").write_text("x = 1\n")
    key = key_of({"seed": 0, "train": {"epochs": 2}}, [code])
    assert key == key_of({"train": {"epochs": 2}, "seed": 0}, [code])
    assert key != key_of({"seed": 1, "train": {"epochs": 2}}, [code])
    assert key != key_of({"seed": 0, "train": {"epochs": 3}}, [code])
    (code / "module.py").write_text("x = 2\n")
    assert key != key_of({"seed": 0, "train": {"epochs": 2}}, [code])
