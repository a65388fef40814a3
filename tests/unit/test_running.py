"""A training that runs can be watched: by what it leaves for that, and in the terminal."""

from __future__ import annotations

import csv
import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipeline.cli import main
from pipeline.settings import presets
from pipeline.stages import train
from pipeline.storage import running
from pipeline.storage.running import Running
from pipeline.training.checkpoints import Checkpoints
from tests.unit.made_terminal import on_terminal, read_until

ROOT = Path(__file__).parents[2]


def test_training_shows_its_plan_and_each_epoch_that_has_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text(presets.text("smoke"))
    for stage in ("download", "split"):
        with pytest.raises(SystemExit) as ended:
            main([stage])
        assert not ended.value.code
    settings = presets.load("smoke")
    settings = settings.model_copy(
        update={"train": settings.train.model_copy(update={"epochs": 3})}
    )
    checkpoints, out = tmp_path / "checkpoints", tmp_path / "trained"
    seen: list[Running] = []

    def check() -> None:
        seen.extend(running.read(checkpoints))

    began = time.time()
    train.run(settings, "cnn", 1, Path("data/splits"), tmp_path, out, checkpoints, check)
    with (out / "history.csv").open(newline="") as file:
        history = [
            {name: float(value) for name, value in row.items()} for row in csv.DictReader(file)
        ]
    images = json.loads((out / "train.json").read_text())["images"]
    assert [training.history for training in seen] == [history[:1], history[:2], history]
    assert {(each.run, each.epochs, each.images) for each in seen} == {("cnn-1", 3, images)}
    assert all(began - 1 <= each.began <= each.changed <= time.time() for each in seen)
    mean = sum(row["seconds"] for row in history) / 3
    assert seen[-1].rate == pytest.approx(images / mean)


def test_training_whose_plan_can_not_be_written_goes_on(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    running.begin(tmp_path / "file" / "cnn-0-key", 3, 100)
    with running.growing(tmp_path / "file" / "cnn-0-key") as path:
        path.write_text("epoch\n")
    assert running.read(tmp_path / "file") == []


def write(folder: Path, epochs: int, accuracies: list[float]) -> None:
    running.begin(folder, epochs, 1000)
    rows = [f"{n},{a},{2 - a},{2.5 - a},4.0" for n, a in enumerate(accuracies, start=1)]
    columns = "epoch,validation_accuracy,validation_loss,train_loss,seconds"
    (folder / "history.csv").write_text("\n".join([columns, *rows, ""]))


def watch(folder: Path) -> list[str]:
    command = (sys.executable, "-m", "pipeline", "watch", "--checkpoints", str(folder))
    environment = os.environ | {"PYTHONPATH": str(ROOT), "COLUMNS": "100"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


def test_curves_of_what_runs_are_printed(tmp_path: Path) -> None:
    write(tmp_path / "cnn-0-0123", 8, [0.1, 0.8, 0.4])
    (tmp_path / "ca_cnn-1-4567").mkdir()
    running.begin(tmp_path / "ca_cnn-1-4567", 8, 1000)
    lines = [" ".join(line.split()) for line in watch(tmp_path)]
    assert "cnn-0 epoch 4/8, 250 images/s, about 20 s left" in lines
    assert "validation accuracy ▁█▄····· 40.00%, best 80.00% in epoch 2" in lines
    assert "validation loss █▁▅····· 1.6000, least 1.2000 in epoch 2" in lines
    assert "training loss █▁▅····· 2.1000, least 1.7000 in epoch 2" in lines
    assert "ca_cnn-1 epoch 1/8" in lines


def test_more_epochs_than_bars_share_them(tmp_path: Path) -> None:
    write(tmp_path / "cnn-0-0123", 80, [n / 80 for n in range(80)])
    (bars,) = (line.split()[2] for line in watch(tmp_path) if "validation accuracy" in line)
    assert len(bars) == 40  # of the 100 columns
    assert sorted(bars) == list(bars)
    assert (bars[0], bars[-1]) == ("▁", "█")


def test_training_that_no_longer_goes_on_is_told(tmp_path: Path) -> None:
    write(tmp_path / "cnn-0-0123", 8, [0.1])
    before = time.time() - 600
    for path in (tmp_path / "cnn-0-0123").iterdir():
        os.utime(path, (before, before))
    assert any("no epoch has ended for 10.0 min" in line for line in watch(tmp_path))


@pytest.mark.parametrize("name", ["training.json", "history.csv"])
def test_training_of_which_a_file_is_corrupt_is_passed_over(name: str, tmp_path: Path) -> None:
    for run in ("cnn-0", "cnn-1"):
        write(tmp_path / f"{run}-0123", 8, [0.1])
    (tmp_path / "cnn-0-0123" / name).write_text('{"epochs"\nx,y\n')
    assert [training.run for training in running.read(tmp_path)] == ["cnn-1"]


def test_finished_training_whose_checkpoints_wait_for_its_evaluation_is_not_shown(
    tmp_path: Path,
) -> None:
    for run in ("cnn-0", "cnn-1"):
        write(tmp_path / f"{run}-0123", 2, [0.1, 0.8])
    Checkpoints(tmp_path / "cnn-0-0123", "key").finish()
    assert [training.run for training in running.read(tmp_path)] == ["cnn-1"]
    running.begin(tmp_path / "cnn-0-0123", 2, 10)  # its checkpoints were corrupt: it trains again
    assert {training.run for training in running.read(tmp_path)} == {"cnn-0", "cnn-1"}


def test_nothing_to_watch_is_said(tmp_path: Path) -> None:
    assert "no training is under way" in watch(tmp_path)[0]
    assert math.isnan(Running("cnn-0", 0.0, 0.0, 3, 10, []).rate)


def test_terminal_is_kept_up_to_date_until_interrupted(tmp_path: Path) -> None:
    write(tmp_path / "cnn-0-0123", 8, [0.1])
    command = (sys.executable, "-m", "pipeline", "watch", "--checkpoints", ".")
    with on_terminal(command, tmp_path) as (watching, screen):
        text = read_until(screen, "epoch 2/8")
        write(tmp_path / "cnn-0-0123", 8, [0.1, 0.5])
        text += read_until(screen, "epoch 3/8")
        watching.send_signal(signal.SIGINT)
        assert watching.wait(timeout=60) == 0
    assert "Traceback" not in text
