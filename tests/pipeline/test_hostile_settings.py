"""A stranger's params.yaml in the real DVC: nothing of it is executed, nothing of it deletes."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.projects import Done, Project, environment

pytestmark = pytest.mark.slow

OWNED = "touch owned"
HOSTILE = [
    f"x; {OWNED} #",
    f"$({OWNED})",
    f"`{OWNED}`",
    f"'; {OWNED} #",
    f'"; {OWNED} #',
    f"x\n{OWNED}\n",
    f"x\u2028{OWNED}\u2028",
    f"\\'\";{OWNED};#",  # for fish, whose quotes end elsewhere
    "> owned",
]


def settings(project: Project) -> dict[str, Any]:
    return yaml.safe_load((project.root / "params.yaml").read_text())


def write(project: Project, changed: dict[str, Any]) -> None:
    (project.root / "params.yaml").write_text(yaml.safe_dump(changed, sort_keys=False))


def named(project: Project, names: Sequence[str], seeds: Sequence[Any]) -> None:
    """Call the architectures `names` and the seeds `seeds`."""
    changed = settings(project)
    network = changed["architectures"]["cnn"]
    changed |= {"model": names[0], "architectures": dict.fromkeys(names, network), "seeds": seeds}
    write(project, changed)


def train(project: Project, shell: str) -> Done:
    """Let DVC run all trainings, each by itself, from whatever is in the folder of splits."""
    (project.root / "data" / "splits").mkdir(parents=True, exist_ok=True)
    (project.root / "data" / "splits" / "images.npy").touch()
    repro = ["dvc", "repro", "--keep-going", "--single-item", "train"]
    return project.run("env", f"SHELL={shell}", *repro, expect=None)


@pytest.mark.parametrize("shell", ["bash", "sh"])
def test_no_name_is_executed_by_any_shell(fresh: Project, shell: str) -> None:
    program = shutil.which(shell, path=environment()["PATH"])
    assert program
    named(fresh, HOSTILE, [0])
    done = train(fresh, program)
    assert done.returncode != 0
    assert done.stdout.count("Running stage 'train@") + done.stdout.count('stage "train@') == len(
        HOSTILE
    )
    assert done.stderr.count("is no name for an architecture") == len(HOSTILE)
    assert not list(fresh.root.rglob("owned*"))


def test_no_seed_is_executed(fresh: Project) -> None:
    named(fresh, ["cnn"], HOSTILE)
    done = train(fresh, "/bin/sh")
    assert done.returncode != 0
    assert done.stderr.count("input should be a valid integer") >= len(HOSTILE)
    assert not list(fresh.root.rglob("owned*"))


OUTSIDE = [
    ("../../own", 0),
    ("../../../own", 0),
    ("cnn", "../../../own/0"),
    ("../../.git/hooks", 0),
]


def own_files(project: Project) -> list[Path]:
    """Make files of a person's own, in the project and beside it."""
    files = [folder / "own" / "0" / "photo.png" for folder in (project.root, project.root.parent)]
    for file in files:
        file.parent.mkdir(parents=True)
        file.touch()
    return files


@pytest.mark.parametrize(("name", "seed"), OUTSIDE)
def test_name_that_leads_out_of_the_outputs_is_refused_before_anything_is_removed(
    fresh: Project, name: str, seed: int | str
) -> None:
    own, hooks = own_files(fresh), fresh.hashes(".git/hooks/*")
    named(fresh, [name], [seed])
    for options in ([], ["--force"], ["--keep-going"]):
        done = fresh.dvc("repro", *options, expect=None)
        assert done.returncode != 0
        assert "Running stage" not in done.stdout
    assert all(file.exists() for file in own)
    assert fresh.hashes(".git/hooks/*") == hooks != {}


@pytest.mark.parametrize(("name", "seed"), OUTSIDE)
def test_no_name_lets_an_experiment_remove_anything_outside_the_project(
    fresh: Project, name: str, seed: int | str
) -> None:
    (_, beside), hooks = own_files(fresh), fresh.hashes(".git/hooks/*")
    named(fresh, [name], [seed])
    done = fresh.dvc("exp", "run", expect=None)
    assert done.returncode != 0
    assert "Running stage" not in done.stdout
    assert beside.exists()
    assert fresh.hashes(".git/hooks/*") == hooks != {}


def test_setting_given_to_an_experiment_is_not_executed(fresh: Project) -> None:
    attack = f'architectures={{"$({OWNED})": {{family: cnn}}}}'
    done = fresh.dvc("exp", "run", "--set-param", attack, expect=None)
    assert done.returncode != 0
    done = fresh.dvc("exp", "run", "--set-param", f'seeds=["; {OWNED}"]', expect=None)
    assert done.returncode != 0
    assert not list(fresh.root.rglob("owned*"))


def test_snakemake_refuses_hostile_names_before_any_job(fresh: Project) -> None:
    named(fresh, HOSTILE, [0])
    done = fresh.snakemake(expect=None)
    assert done.returncode != 0
    assert "is no name for an architecture" in done.stdout + done.stderr
    assert not (fresh.root / "logs").exists() or not list((fresh.root / "logs").iterdir())
    assert not list(fresh.root.rglob("owned*"))
