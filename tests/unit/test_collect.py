"""What `docs.results.collect` copies of a finished project, here a made one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from docs.results.collect import collect
from pipeline.settings import presets
from pipeline.stages import download, split

ROOT = Path(__file__).parents[2]
SEEDS = "seeds: [0, 1]"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    root, settings = tmp_path / "project", presets.load("smoke")
    download.run(settings.data, root / "data" / "raw", root / "downloads")
    split.run(settings.data, settings.split, root / "data" / "raw", root / "data" / "splits")
    assert SEEDS in presets.text("smoke")
    (root / "params.yaml").write_text(presets.text("smoke"))
    (root / "reports").mkdir()
    (root / "reports" / "report.md").write_text("no links\n")
    (root / "reports" / "verdict.json").write_text('{"pairs": []}')
    for model in settings.architectures:
        for seed in settings.seeds:
            evaluated, trained = (
                root / "data" / stage / model / str(seed) for stage in ("evaluated", "trained")
            )
            evaluated.mkdir(parents=True)
            trained.mkdir(parents=True)
            np.save(evaluated / "logits.npy", np.zeros((300, 10)))
            answers = dict.fromkeys(("intact", "frozen", "shuffled"), np.zeros(300, int))
            np.savez(evaluated / "interventions.npz", **answers)
            (trained / "history.csv").write_text("epoch\n1\n")
    return root


def test_second_collection_holds_nothing_of_a_seed_that_is_gone(
    project: Path, tmp_path: Path
) -> None:
    collect(project, tmp_path / "results")
    both = {path.name for path in (tmp_path / "results").rglob("*") if path.is_file()}
    (project / "params.yaml").write_text(presets.text("smoke").replace(SEEDS, "seeds: [0]"))
    collect(project, tmp_path / "results")
    left = {path.name for path in (tmp_path / "results").rglob("*") if path.is_file()}
    assert {"cnn-1.npy", "cnn-1.npz", "cnn-1.csv"} <= both
    assert left == {name for name in both if "-1." not in name}


@pytest.mark.parametrize("arguments", [(), ("nowhere", "results")])
def test_what_to_name_is_said_on_one_line(arguments: tuple[str, ...]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "docs.results.collect", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "name a project whose report is made, and a folder for its results\n"
