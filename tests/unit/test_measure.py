from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from torch import Tensor, nn

from pipeline.comparison.runs import read_runs
from pipeline.evaluation import cost
from pipeline.models.registry import build
from pipeline.settings import load, presets, schema
from pipeline.stages import download, measure, split
from pipeline.statistics.cost_ratio import ROUNDS
from pipeline.system.errors import InputError
from pipeline.training.step import Step

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def settings() -> schema.Settings:
    return presets.load("smoke")


@pytest.fixture(scope="module")
def splits(settings: schema.Settings, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("digits")
    download.run(settings.data, folder / "raw", folder / "downloads")
    split.run(settings.data, settings.split, folder / "raw", folder / "splits")
    return folder / "splits"


def test_every_architecture_has_its_turn_in_every_round(
    settings: schema.Settings, splits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    turns: list[tuple[str, int]] = []

    def timed(model: nn.Module, image: Tensor, repeats: int) -> np.ndarray:
        turns.append((str(sum(p.numel() for p in model.parameters())), len(image)))
        return np.full(repeats, float(len(turns)))

    monkeypatch.setattr(cost, "latency", timed)
    measure.run(settings, splits, tmp_path / "measured")
    rounds = np.array(turns).reshape(ROUNDS, len(settings.architectures), 2)
    first = rounds[0]
    assert len({parameters for parameters, _ in first}) == len(settings.architectures)
    assert all((turn == first).all() for turn in rounds[::2])
    assert all((turn == first[::-1]).all() for turn in rounds[1::2])
    assert {images for _, images in first} == {"1"}

    written = json.loads((tmp_path / "measured" / "timings.json").read_text())
    latencies = [written["architectures"][name]["latency_ms"] for name in settings.architectures]
    by_round = np.transpose(latencies)
    by_round[1::2] = by_round[1::2, ::-1]
    assert by_round.ravel().tolist() == [*range(1, len(turns) + 1)]


def test_training_is_measured_in_the_steps_of_the_recipe(
    settings: schema.Settings, splits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[tuple[int, str, bool]] = []

    def noted(self: Step, images: Tensor, targets: Tensor) -> int:
        size = take(self, images, targets)
        weight = next(iter(self.optimizer.state.values()))["exp_avg"]
        steps.append((size, self.hardware.precision, bool(weight.abs().sum() > 0)))
        return size

    take = Step.take
    monkeypatch.setattr(Step, "take", noted)
    recipe = settings.train.model_copy(update={"batch_size": 50, "processes": 2})
    precise = settings.compute.model_copy(update={"precision": "bf16"})
    changed = settings.model_copy(update={"train": recipe, "compute": precise})
    measure.run(changed, splits, tmp_path / "measured")
    # the share of one of two processes, in the recipe's precision; each step learns
    assert set(steps) == {(25, "bf16", True)}
    assert len(steps) == (2 + ROUNDS) * len(settings.architectures)


def test_times_are_positive_and_of_the_machine(
    settings: schema.Settings, splits: Path, tmp_path: Path
) -> None:
    measure.run(settings, splits, tmp_path / "measured")
    written = json.loads((tmp_path / "measured" / "timings.json").read_text())
    assert written["threads"] == settings.compute.threads
    assert written["device_name"]
    assert list(written["architectures"]) == list(settings.architectures)
    for timings in written["architectures"].values():
        by_round = [timings[name] for name in ("latency_ms", "throughput", "training_throughput")]
        assert [len(values) for values in by_round] == [ROUNDS] * 3
        assert min(map(min, by_round)) > 0
        assert timings["latency_ms_p95"] >= np.median(timings["latency_ms"])


def test_memory_is_the_same_in_every_measurement(
    settings: schema.Settings, splits: Path, tmp_path: Path
) -> None:
    found = []
    for name in ("once", "again"):
        measure.run(settings, splits, tmp_path / name)
        written = json.loads((tmp_path / name / "timings.json").read_text())["architectures"]
        found.append({model: one["training_memory"] for model, one in written.items()})
        # the weights, their gradients and Adam's two moments are the least that a training takes
        for model, one in written.items():
            network = build(settings.architectures[model].model_dump(), 10, 8, 1)
            assert one["training_memory"] > 4 * 4 * cost.parameters(network)
            assert one["inference_memory"] > 4 * cost.parameters(network)
    assert found[0] == found[1]


MACHINE = (
    '"device_name": "a CPU", "threads": 1, "throughput_batch": 64, "training_batch": 64, '
    '"precision": "fp32", "other_processes": 0, "splits": "", '
    '"made_from": {"settings": {}, "code": {}, "inputs": {}}'
)
SIX = "[1, 1, 1, 1, 1, 1]"
MEMORY = '"inference_memory": 1, "training_memory": 1'


def measured_rounds(latency: str, throughput: str = SIX, training: str | None = SIX) -> str:
    rounds = f'"latency_ms_p95": 1, "latency_ms": {latency}, "throughput": {throughput}, {MEMORY}'
    if training is not None:
        rounds += f', "training_throughput": {training}'
    return f'{{{MACHINE}, "architectures": {{"cnn": {{{rounds}}}}}}}'


@pytest.mark.parametrize(
    ("timings", "message"),
    [
        (f'{{{MACHINE}, "architectures": {{}}}}', "without cnn"),
        (measured_rounds(SIX, training=None), "without architectures.cnn.training_throughput"),
        (measured_rounds("[1, 1, 1, 1, 1, 0]"), "greater than 0"),
        (measured_rounds("[1, 1, 1, 1, 1, NaN]"), "finite"),
        (measured_rounds(SIX, "[1, 1]"), "at least 6 items"),
        (measured_rounds('"fast"'), "can't be read"),
        (measured_rounds(SIX, training="[1, 1, 1, 1, 1, 1, 1]"), "same rounds"),
        (f'{{{MACHINE}, "architectures": [1]}}', "can't be read"),
        ('{"architectures', "can't be read"),
        (None, "no such file; measure the architectures first"),
    ],
)
def test_corrupt_timings_are_refused(timings: str | None, message: str, tmp_path: Path) -> None:
    if timings is not None:
        (tmp_path / "timings.json").write_text(f"{timings}\n")
    content = presets.values("digits")
    content |= {"model": "cnn", "architectures": {"cnn": content["architectures"]["cnn"]}}
    settings = load.check(content)
    with pytest.raises(InputError, match=message) as refused:
        read_runs(tmp_path, tmp_path, tmp_path, settings, {}, "")
    assert "timings.json" in str(refused.value)
    assert "python -m pipeline measure" in str(refused.value)
