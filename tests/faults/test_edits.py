"""Settings and code edited while a training runs: what DVC records is what ran."""

from __future__ import annotations

import random
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults.conftest import small
from tests.faults.record import REPORTED
from tests.faults.stages import MODEL
from tests.projects import Project, copied, environment, shared

EDITS = 8  # at moments of their own, with each engine
STAGE, OUT = f"train@{MODEL}-0", f"data/trained/{MODEL}/0"
WEIGHTS = f"{OUT}/model.safetensors"
ENGINES = {
    "dvc repro": ["dvc", "repro", "--single-item", STAGE],
    "snakemake": ["snakemake", "--cores", "1", OUT],
}
# a file, what stands in it, and what would train another network
EDITED = {
    "settings": ("params.yaml", "  learning_rate: 0.001 ", "  learning_rate: 0.0005 "),
    "code": ("pipeline/training/randomness.py", 'f"{seed}/', 'f"again/{seed}/'),
}


def edit(project: Project, what: str) -> None:
    name, old, new = EDITED[what]
    path = project.root / name
    text = path.read_text()
    assert text.count(old) == 1
    path.write_text(text.replace(old, new))


@pytest.fixture(scope="module", params=EDITED)
def edited(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, Project, dict[bool, str], float]:
    """What is edited, a project before its training, the weights without and with it, seconds."""
    what = request.param

    def make(root: Path) -> None:
        project = small(root / "before")
        project.dvc("repro", "split")
        project.commit("divided")
        for name in ("old", "new"):
            other = copied(project, root / name)
            if name == "new":
                edit(other, what)
            began = time.monotonic()
            other.dvc("repro", "--single-item", STAGE)
            (root / f"{name}.seconds").write_text(str(time.monotonic() - began))

    root = shared(tmp_path_factory, f"edited {what}", make).root
    weights = {
        name == "new": Project(root / name).hashes(WEIGHTS)[WEIGHTS] for name in ("old", "new")
    }
    assert weights[False] != weights[True]
    return what, Project(root / "before"), weights, float((root / "old.seconds").read_text())


@pytest.mark.parametrize("engine", ENGINES)
def test_what_is_edited_at_any_moment_is_never_recorded_as_what_ran(
    engine: str,
    edited: tuple[str, Project, dict[bool, str], float],
    tmp_path: Path,
    rng: random.Random,
    see: Callable[..., None],
) -> None:
    what, before, weights, seconds = edited
    for number in range(EDITS):
        project = copied(before, tmp_path / str(number))
        running = subprocess.Popen(
            ENGINES[engine],
            cwd=project.root,
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        time.sleep(rng.uniform(0.2, 1.2) * seconds)
        edit(project, what)
        printed, _ = running.communicate(timeout=600)
        log = project.root / f"logs/train_{MODEL}_0.log"
        printed += log.read_text() if log.exists() else ""
        assert "Traceback" not in printed
        is_recorded = STAGE not in project.dvc("status", STAGE).stdout
        if is_recorded and project.hashes(WEIGHTS)[WEIGHTS] == weights[False]:
            # DVC looks some tenths of a second after the command has ended
            refused = project.dvc("repro", "--single-item", f"evaluate@{MODEL}-0", expect=None)
            said = refused.stdout + refused.stderr
            assert "trained under other settings" in said or "trained by other code" in said
            project.run(*said.partition("again: ")[2].splitlines()[0].split())
        if running.returncode != 0:
            assert "changed during this training" in printed
        project.dvc("repro", "--single-item", STAGE)
        assert project.hashes(WEIGHTS)[WEIGHTS] == weights[True]
    see(f"{what} edited", f"`{engine}` at a training", REPORTED, REPORTED, EDITS)
