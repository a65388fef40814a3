"""Files between stages that are truncated, changed or gone, and the engines' own."""

from __future__ import annotations

import contextlib
import io
import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from pipeline.cli import main
from pipeline.engines import dvc_files, dvc_graph, unchanged
from tests.faults.record import REPORTED, UNHARMED
from tests.faults.stages import ENGINES, MODEL, STAGES, results, run
from tests.projects import Project

TRAINED, EVALUATED = f"data/trained/{MODEL}/0", f"data/evaluated/{MODEL}/0"
EXPLAINED = f"reports/figures/architectures/{MODEL}"
READERS = {  # of each file between two stages, one stage that reads it
    "data/raw/source.json": "split",
    "data/raw/images.npy": "split",
    "data/raw/labels.npy": "split",
    "data/splits/dataset.json": "train",
    "data/splits/images.npy": "train",
    "data/splits/labels.npy": "evaluate",
    "data/splits/index.csv": "measure",
    f"{TRAINED}/model.safetensors": "evaluate",
    f"{TRAINED}/history.csv": "report",
    f"{TRAINED}/train.json": "report",
    f"{EVALUATED}/logits.npy": "report",
    f"{EVALUATED}/metrics.json": "report",
    "data/measured/timings.json": "report",
    f"{EXPLAINED}/explain.json": "report",
    f"{EXPLAINED}/grad_cam.npy": "report",
    f"{EXPLAINED}/faithfulness.csv": "report",
    f"{EXPLAINED}/faithfulness_areas.csv": "report",
    f"{EXPLAINED}/empty_images.csv": "report",
    f"{EXPLAINED}/randomisation.csv": "report",
    f"{EXPLAINED}/attention_variation.csv": "report",
}
RANDOM_CUTS = 3
ALLOWED = f"{REPORTED}; {UNHARMED} if only a line end is gone"


def stage_in_this_process(name: str) -> tuple[int, str]:
    """Run a stage; return its exit code and what it printed."""
    printed = io.StringIO()
    with contextlib.redirect_stderr(printed):
        try:
            code = main(STAGES[name].arguments)
        except SystemExit as ended:
            code = int(ended.code or 0)
    return code, printed.getvalue()


@pytest.mark.parametrize("file", READERS)
def test_truncated_file_is_named_and_changes_no_result(
    file: str,
    finished: Project,
    right: dict[str, str],
    rng: random.Random,
    see: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(finished.root)
    for module in (dvc_graph, dvc_files, unchanged):  # the project's code is that of this process
        monkeypatch.setattr(module, "ROOT", finished.root)
    path, reader = finished.root / file, READERS[file]
    content = path.read_bytes()
    others = {name: sha256 for name, sha256 in right.items() if name != file}
    cuts = [0, 1, len(content) - 1, *rng.sample(range(2, len(content) - 1), RANDOM_CUTS)]
    for cut in cuts:
        path.write_bytes(content[:cut])
        code, printed = stage_in_this_process(reader)
        *_, last = printed.splitlines()
        if code:
            assert code in (1, 2)
            assert last.startswith("error: ")
            assert path.name in last
        now = results(finished.root)
        assert {name: now[name] for name in others} == others
        outcome = REPORTED if code else UNHARMED
        see("truncated file", f"`{path.suffix}` before `{reader}`", ALLOWED, outcome)
    path.write_bytes(content)
    assert stage_in_this_process(reader)[0] == 0
    assert results(finished.root) == right


def outputs(project: Project) -> list[Path]:
    lock = yaml.safe_load((project.root / "dvc.lock").read_text())
    named = [out["path"] for stage in lock["stages"].values() for out in stage["outs"]]
    return [project.root / path for path in named]


def delete(path: Path, rng: random.Random) -> None:
    shutil.rmtree(path) if path.is_dir() else path.unlink()


def delete_a_file(path: Path, rng: random.Random) -> None:
    delete(a_file(path, rng), rng)


def truncate(path: Path, rng: random.Random) -> None:
    chosen = a_file(path, rng)
    content = chosen.read_bytes()
    chosen.write_bytes(content[: rng.randrange(len(content))])


def a_file(path: Path, rng: random.Random) -> Path:
    if path.is_file():
        return path
    return rng.choice(sorted(each for each in path.rglob("*") if each.stat().st_size))


DAMAGES = {"deleted output": delete, "deleted file": delete_a_file, "truncated output": truncate}


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_outputs_come_back_without_any_work(
    damage: str,
    engine: str,
    finished: Project,
    right: dict[str, str],
    rng: random.Random,
    see: Callable[..., None],
) -> None:
    damaged = outputs(finished)
    for path in damaged:
        DAMAGES[damage](path, rng)
    done = run(ENGINES[engine], finished.root)
    assert done.returncode == 0, done.stdout + done.stderr
    assert results(finished.root) == right
    assert finished.is_clean()
    assert not list((finished.root / ".cache" / "checkpoints").glob("*"))
    see(damage, f"all outputs, then `{engine}`", UNHARMED, UNHARMED, len(damaged))


def cached(project: Project, output: str) -> list[Path]:
    """What DVC's cache holds of an output: the list of its files first, then each of them."""
    lock = yaml.safe_load((project.root / "dvc.lock").read_text())
    (md5,) = (
        out["md5"]
        for stage in lock["stages"].values()
        for out in stage["outs"]
        if out["path"] == output
    )
    store = project.root / ".dvc" / "cache" / "files" / "md5"

    def at(name: str) -> Path:
        return store / name[:2] / name[2:]

    return [at(md5), *(at(entry["md5"]) for entry in yaml.safe_load(at(md5).read_text()))]


def flip_a_bit(path: Path, rng: random.Random) -> None:
    content = bytearray(path.read_bytes())
    content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    overwrite(path, bytes(content))


def cut(path: Path, rng: random.Random) -> None:
    content = path.read_bytes()
    overwrite(path, content[: rng.randrange(len(content))])


def overwrite(path: Path, content: bytes) -> None:
    """Change a file as a failing disk does: its permissions stay."""
    mode = path.stat().st_mode
    path.chmod(0o644)
    path.write_bytes(content)
    path.chmod(mode)


@pytest.mark.parametrize(
    ("output", "corrupt"),
    [("data/splits", flip_a_bit), (TRAINED, cut), (TRAINED, flip_a_bit), (EVALUATED, cut)],
)
def test_corrupted_object_in_the_cache_is_made_again(
    output: str,
    corrupt: Callable[[Path, random.Random], None],
    finished: Project,
    right: dict[str, str],
    rng: random.Random,
    see: Callable[..., None],
) -> None:
    held = cached(finished, output)
    for path in (held[0], rng.choice(held[1:])):
        corrupt(path, rng)
        shutil.rmtree(finished.root / output)
        done = run(ENGINES["snakemake"], finished.root)
        assert done.returncode == 0, done.stdout + done.stderr
        assert results(finished.root) == right
        assert finished.is_clean()
        see("corrupted object in DVC's cache", "then `snakemake`", UNHARMED, UNHARMED)


CLAIMS = {  # as DVC writes them while it works; none are left when it has ended
    "write": {"data/raw": {"pid": 1, "cmd": "dvc repro"}},
    "read": {"data/local": [{"pid": 1, "cmd": "dvc repro"}]},
}


@pytest.mark.parametrize("lock_file", ["dvc.lock", ".dvc/tmp/rwlock"])
def test_corrupt_lock_files_of_dvc_are_quarantined_and_nothing_is_trained(
    lock_file: str,
    finished: Project,
    right: dict[str, str],
    rng: random.Random,
    see: Callable[..., None],
) -> None:
    path = finished.root / lock_file
    content = path.read_bytes() if lock_file == "dvc.lock" else json.dumps(CLAIMS).encode()
    for length in (0, *rng.sample(range(1, len(content)), 2)):
        path.write_bytes(content[:length])
        done = run(ENGINES["snakemake"], finished.root)
        assert done.returncode == 0, done.stdout + done.stderr
        assert finished.ran() == set()
        assert results(finished.root) == right
        assert finished.is_clean()
        see("truncated lock files of DVC", f"`{lock_file}`, then `snakemake`", UNHARMED, UNHARMED)
