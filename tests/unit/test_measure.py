from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from torch import Tensor, nn

from pipeline.comparison.runs import read_runs
from pipeline.evaluation import cost
from pipeline.settings import load, presets, schema
from pipeline.stages import download, measure, split
from pipeline.system.errors import InputError

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
    rounds = np.array(turns).reshape(measure.ROUNDS, len(settings.architectures), 2)
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


def test_times_are_positive_and_of_the_machine(
    settings: schema.Settings, splits: Path, tmp_path: Path
) -> None:
    measure.run(settings, splits, tmp_path / "measured")
    written = json.loads((tmp_path / "measured" / "timings.json").read_text())
    assert written["threads"] == settings.compute.threads
    assert written["device_name"]
    assert list(written["architectures"]) == list(settings.architectures)
    for timings in written["architectures"].values():
        assert len(timings["latency_ms"]) == len(timings["throughput"]) == measure.ROUNDS
        assert min(*timings["latency_ms"], *timings["throughput"]) > 0
        assert timings["latency_ms_p95"] >= np.median(timings["latency_ms"])


MACHINE = (
    '"device_name": "a CPU", "threads": 1, "throughput_batch": 64, "splits": "", '
    '"made_from": {"settings": {}, "code": {}, "inputs": {}}'
)


def measured_rounds(rounds: str) -> str:
    return f'{{{MACHINE}, "architectures": {{"cnn": {{"latency_ms_p95": 1, {rounds}}}}}}}'


@pytest.mark.parametrize(
    ("timings", "message"),
    [
        (f'{{{MACHINE}, "architectures": {{}}}}', "without cnn"),
        (measured_rounds('"latency_ms": [1]'), "without architectures.cnn.throughput"),
        (measured_rounds('"latency_ms": [1, 0], "throughput": [1, 1]'), "greater than 0"),
        (measured_rounds('"latency_ms": [1, NaN], "throughput": [1, 1]'), "finite"),
        (measured_rounds('"latency_ms": [], "throughput": []'), "at least 1 item"),
        (measured_rounds('"latency_ms": "fast", "throughput": [1]'), "can't be read"),
        (measured_rounds('"latency_ms": [1, 1], "throughput": [1]'), "same rounds"),
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
