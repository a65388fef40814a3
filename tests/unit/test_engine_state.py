"""DVC's graph and changes, corrupt lock files quarantined, future times clamped, caches verified.

Each use that the pipeline makes of what DVC doesn't document has a test here, with the real DVC.
"""

from __future__ import annotations

import json
import os
import shutil
import stat
import threading
import time
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from dvc.dependency import param
from dvc.exceptions import DvcException
from dvc.lock import LockError
from dvc.repo import Repo
from dvc.rwlock import RWLOCK_FILE
from dvc.rwlock import rwlock as dvc_rwlock
from dvc.stage import Stage

from pipeline.engines import dvc_files, dvc_state, false_records
from pipeline.engines.dvc_graph import ROOT
from pipeline.system.errors import InputError

LOCK = """\
schema: '2.0'
stages:
  split:
    cmd: python -m pipeline split
    outs:
    - path: data/splits
      hash: md5
      md5: 0123456789abcdef0123456789abcdef.dir
      size: 7
      nfiles: 3
"""


@pytest.fixture
def repo(tmp_path: Path) -> Repo:
    return Repo.init(str(tmp_path), no_scm=True)


def quarantine(repo: Repo, folder: Path) -> None:
    dvc_state.quarantine_corrupt_lock(repo, folder)
    dvc_state.quarantine_corrupt_rwlock(repo, folder)


def test_intact_lock_files_stay(repo: Repo, tmp_path: Path) -> None:
    lock, rwlock = tmp_path / "dvc.lock", Path(repo.tmp_dir, RWLOCK_FILE)
    lock.write_text(LOCK)
    rwlock.write_text('{"read": {}}')
    quarantine(repo, tmp_path / "corrupt")
    assert lock.read_text() == LOCK
    assert rwlock.exists()
    assert not (tmp_path / "corrupt").exists()


@pytest.mark.parametrize("length", [4, 10, 16, 40])
def test_truncated_dvc_lock_is_quarantined(
    repo: Repo, tmp_path: Path, length: int, capsys: pytest.CaptureFixture[str]
) -> None:
    lock = tmp_path / "dvc.lock"
    lock.write_text(LOCK[:length])
    quarantine(repo, tmp_path / "corrupt")
    assert not lock.exists()
    assert (tmp_path / "corrupt" / "dvc.lock").read_text() == LOCK[:length]
    assert f"dvc.lock is corrupt: moved to {tmp_path / 'corrupt'}" in capsys.readouterr().err


def test_lock_that_is_written_at_the_moment_is_no_empty_record(repo: Repo, tmp_path: Path) -> None:
    assert dvc_state.locked_stages(repo) == {}
    (tmp_path / "dvc.lock").write_text("schema: '2.0'\nstages:\n  split:\n    cm")
    with pytest.raises(DvcException, match="run again"):
        dvc_state.locked_stages(repo)


def test_dvc_lock_with_a_merge_conflict_is_quarantined(repo: Repo, tmp_path: Path) -> None:
    ours, theirs = "      size: 7\n", "      size: 8\n"
    conflict = f"<<<<<<< HEAD\n{ours}=======\n{theirs}>>>>>>> theirs\n"
    (tmp_path / "dvc.lock").write_text(LOCK.replace(ours, conflict))
    quarantine(repo, tmp_path / "corrupt")
    assert not (tmp_path / "dvc.lock").exists()


def test_corrupt_rwlock_is_quarantined_but_not_while_dvc_writes_it(
    repo: Repo, tmp_path: Path
) -> None:
    rwlock = Path(repo.tmp_dir, RWLOCK_FILE)
    rwlock.write_text('{"read": {"/data')
    with dvc_state.rwlock_guard(repo):
        dvc_state.quarantine_corrupt_rwlock(repo, tmp_path / "corrupt")
        assert rwlock.exists()
    dvc_state.quarantine_corrupt_rwlock(repo, tmp_path / "corrupt")
    assert not rwlock.exists()


def test_dvc_holds_the_guard_while_it_writes_the_rwlock(repo: Repo, tmp_path: Path) -> None:
    def claim() -> AbstractContextManager[None]:
        return dvc_rwlock(repo.tmp_dir, repo.fs, "dvc repro", [], [str(tmp_path / "out")], False)

    with claim():
        assert str(tmp_path / "out") in Path(repo.tmp_dir, RWLOCK_FILE).read_text()
    with dvc_state.rwlock_guard(repo), pytest.raises(LockError), claim():
        pass


def test_outputs_of_the_future_become_outputs_of_now(tmp_path: Path) -> None:
    future, past = tmp_path / "future", tmp_path / "past"
    for folder in (future, past):
        folder.mkdir()
        (folder / ".snakemake_timestamp").touch()
    tomorrow = time.time() + 86_400
    os.utime(future / ".snakemake_timestamp", (tomorrow, tomorrow))
    os.utime(future, (tomorrow, tomorrow))
    os.utime(past, (5, 5))
    dvc_state.clamp_future_mtimes([future, past, tmp_path / "missing"])
    assert future.stat().st_mtime <= time.time()
    assert (future / ".snakemake_timestamp").stat().st_mtime <= time.time()
    assert past.stat().st_mtime == 5


def test_dvc_finds_a_changed_object_when_it_has_it_checked(repo: Repo, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "weights").write_bytes(b"right")
    (stage,) = repo.add(str(tmp_path / "out"))
    (out,) = stage.outs
    assert not out.changed_cache()
    held = next(
        path for path in (tmp_path / ".dvc/cache/files").rglob("*") if path.stat().st_size == 5
    )
    held.chmod(0o644)
    held.write_bytes(b"wrong")
    held.chmod(stat.S_IREAD | stat.S_IRGRP | stat.S_IROTH)
    assert not out.changed_cache()  # DVC believes a file that is read-only
    dvc_state.force_cache_verification(out)
    assert out.changed_cache()


@pytest.mark.parametrize(
    ("old", "new"), [(b"relpath", b"rmlpath"), (b'"md5"', b"'md5'"), (b"[", b"")]
)
def test_corrupt_list_of_a_folder_is_missing_to_dvc(
    repo: Repo, tmp_path: Path, old: bytes, new: bytes
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "weights").write_bytes(b"right")
    (stage,) = repo.add(str(tmp_path / "out"))
    (out,) = stage.outs
    listed = Path(out.cache_path)
    listed.chmod(0o644)
    listed.write_bytes(listed.read_bytes().replace(old, new, 1))
    dvc_state.force_cache_verification(out)
    assert not listed.exists()
    assert out.changed_cache()


def test_dvc_lock_that_is_being_written_is_read_once_it_is_complete(
    repo: Repo, tmp_path: Path
) -> None:
    (tmp_path / "dvc.yaml").write_text(
        "stages:\n  split:\n    cmd: python -m pipeline split\n    outs: [data/splits]\n"
    )
    lock = tmp_path / "dvc.lock"
    lock.write_text(LOCK[:40])
    writing = threading.Timer(1.2, lock.write_text, [LOCK])
    writing.start()
    (stage,) = dvc_state.read_graph(repo)
    writing.join()
    assert stage.outs[0].hash_info.value == "0123456789abcdef0123456789abcdef.dir"


def test_dvc_lock_that_stays_corrupt_is_an_error(
    repo: Repo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dvc_state, "SECONDS_TO_WRITE", 1.0)
    (tmp_path / "dvc.yaml").write_text("stages:\n  split:\n    cmd: python -m pipeline split\n")
    (tmp_path / "dvc.lock").write_text(LOCK[:40])
    with pytest.raises(DvcException, match=r"dvc\.lock"):
        dvc_state.read_graph(repo)


PIPELINE = """\
stages:
  split:
    cmd: mkdir splits && cp code.py splits
    deps: [code.py]
    params: [split]
    outs: [splits]
  train:
    cmd: cp splits/code.py weights
    deps: [splits]
    params: [train.epochs, split]
    outs: [weights]
"""


@pytest.fixture
def stages(repo: Repo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Stage]:
    """The two stages of a finished project, by name."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dvc.yaml").write_text(PIPELINE)
    (tmp_path / "params.yaml").write_text("split: {folds: 2}\ntrain: {epochs: 3}\n")
    (tmp_path / "code.py").write_text("first")
    repo.reproduce()
    monkeypatch.setattr(param, "load_path", param.load_path)  # as it was, after the test
    return {stage.addressing: stage for stage in dvc_state.read_graph(dvc_state.open_repo())}


def test_successors_of_a_stage_are_those_that_it_waits_for(
    stages: dict[str, Stage],
) -> None:
    graph = dvc_state.read_graph(dvc_state.open_repo())
    train = next(stage for stage in graph if stage.addressing == "train")
    assert [stage.addressing for stage in graph.successors(train)] == ["split"]


def test_settings_are_those_that_a_stage_depends_on(stages: dict[str, Stage]) -> None:
    assert dvc_state.settings_of(stages["split"]) == {"split": {"folds": 2}}
    assert dvc_state.settings_of(stages["train"]) == {"split": {"folds": 2}, "train.epochs": 3}


def test_params_are_read_once_for_all_stages(
    stages: dict[str, Stage], monkeypatch: pytest.MonkeyPatch
) -> None:
    reads = []

    def load_path(path: str, *arguments: object) -> dict[str, object]:
        reads.append(path)
        return {"split": {"folds": 2}, "train": {"epochs": 3}}

    monkeypatch.setattr(param, "load_path", load_path)
    dvc_state.settings_of(stages["train"])
    dvc_state.settings_of(stages["split"])
    assert len(reads) == 2  # as DVC does by itself
    dvc_state.open_repo()
    dvc_state.settings_of(stages["train"])
    dvc_state.settings_of(stages["split"])
    assert len(reads) == 3


def test_nothing_is_changed_after_a_run(stages: dict[str, Stage]) -> None:
    assert dvc_state.changed_stages(stages.values()) == set()


def test_file_that_two_stages_depend_on_is_looked_at_for_each_record_of_it(
    stages: dict[str, Stage], tmp_path: Path
) -> None:
    with (tmp_path / "dvc.yaml").open("a") as file:
        file.write("  other:\n    cmd: cp code.py other\n    deps: [code.py]\n    outs: [other]\n")
    (tmp_path / "code.py").unlink()
    (tmp_path / "code.py").write_text("second")
    Repo().reproduce("other")  # recorded with the second code, split with the first
    graph = dvc_state.read_graph(Repo())
    assert dvc_state.changed_stages(graph) == {"split"}


@pytest.mark.parametrize(
    ("path", "text", "changed"),
    [
        ("code.py", "second", {"split"}),
        ("params.yaml", "split: {folds: 2}\ntrain: {epochs: 4}\n", {"train"}),
        ("params.yaml", "split: {folds: 3}\ntrain: {epochs: 3}\n", {"split", "train"}),
        ("params.yaml", "# two\nsplit: {folds: 2}\ntrain: {epochs: 3}\n", set()),
        ("dvc.yaml", PIPELINE.replace("cp splits/code.py", "cp -p splits/code.py"), {"train"}),
        ("splits/code.py", "by hand", {"split", "train"}),
        ("weights", "by hand", {"train"}),
    ],
)
def test_changed_stages_are_those_that_dvc_status_names(
    path: str, text: str, changed: set[str], stages: dict[str, Stage], tmp_path: Path
) -> None:
    (tmp_path / path).unlink()  # it may be a link into the cache
    (tmp_path / path).write_text(text)
    param.load_path.cache_clear()
    assert dvc_state.changed_stages(dvc_state.read_graph(Repo())) == changed
    assert Repo().status().keys() == changed


def test_stage_that_records_another_input_than_the_one_here_is_changed(
    stages: dict[str, Stage], tmp_path: Path
) -> None:
    lock = tmp_path / "dvc.lock"
    of_train = lock.read_text().partition("  train:\n")[2]
    (tmp_path / "code.py").unlink()
    (tmp_path / "code.py").write_text("second")
    Repo().reproduce()
    of_split = lock.read_text().partition("  train:\n")[0]
    lock.write_text(f"{of_split}  train:\n{of_train}")  # as git merge -X ours may leave it
    Repo().checkout()
    assert Repo().status() == {"train": [{"changed deps": {"splits": "modified"}}]}
    assert dvc_state.changed_stages(dvc_state.read_graph(Repo())) == {"train"}


def test_output_that_differs_is_verified_in_the_cache(
    stages: dict[str, Stage], tmp_path: Path
) -> None:
    (out,) = stages["train"].outs
    cached = Path(out.cache_path)
    assert not cached.stat().st_mode & stat.S_IWUSR
    (tmp_path / "weights").unlink()
    assert dvc_state.changed_stages(stages.values()) == {"train"}
    assert cached.stat().st_mode & stat.S_IWUSR


def test_run_cache_forgets_what_dvc_lock_records_of_a_stage(
    repo: Repo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dvc.yaml").write_text(
        "stages:\n  split:\n    cmd: cp dep out\n    deps: [dep]\n    outs: [out]\n"
    )

    def runs() -> list[Path]:
        return [path for path in (tmp_path / ".dvc/cache/runs").rglob("*") if path.is_file()]

    for content in ("one", "two"):
        (tmp_path / "dep").write_text(content)
        repo.reproduce()
    before = runs()
    assert len(before) == 2
    recorded = dvc_state.locked_stages(repo)
    md5 = recorded["split"]["outs"][0]["md5"]
    dvc_state.forget_runs(Repo(str(tmp_path)), ["split"])
    (left,) = runs()
    assert md5 not in left.read_text()


def test_false_record_is_only_of_a_run_that_params_yaml_lists(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(ROOT / "params.yaml", tmp_path)
    stages = {}
    for stage in ("evaluate@cnn-0", "evaluate@cnn-4711", "evaluate@gone-0"):
        folder = Path("data/evaluated", *stage.partition("@")[2].split("-"))
        folder.mkdir(parents=True)
        made_from = {"settings": {}, "code": {"pipeline/elsewhere.py": "0" * 32}, "inputs": {}}
        (folder / "metrics.json").write_text(json.dumps({"made_from": made_from}))
        stages[stage] = {"outs": [{"path": str(folder), "md5": "0" * 32 + ".dir"}]}
    assert false_records.find(stages).keys() == {"evaluate@cnn-0"}


@pytest.mark.parametrize("broken", ["no git", "no stage", "no input", "always changed"])
def test_false_record_is_forgotten_where_it_can_be(
    broken: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    repo = Repo.init(no_scm=True)
    stage = "  {0}:\n    cmd: cp {0} {0}_\n    deps: [{0}]\n    outs: [{0}_]\n"
    graph = f"stages:\n{stage.format('bad')}{stage.format('good')}"
    Path("dvc.yaml").write_text(graph)
    for name in ("bad", "good"):
        Path(name).write_text(name)
    repo.reproduce()
    match broken:
        case "no git":
            Path(".dvc/config").write_text("")
        case "no stage":
            Path("dvc.yaml").write_text(f"stages:\n{stage.format('good')}")
        case "no input":
            Path("bad").unlink()
        case "always changed":
            changed = graph.replace("[bad_]\n", "[bad_]\n    always_changed: true\n")
            Path("dvc.yaml").write_text(changed)
    false_records.forget(["bad", "good"])
    left = [path.read_text() for path in Path(".dvc/cache/runs").rglob("*") if path.is_file()]
    assert any("cp good" in run for run in left) == (broken == "no git")


def test_source_that_dvcignore_leaves_out_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dvc_files, "ROOT", tmp_path)
    (tmp_path / "code" / "deep").mkdir(parents=True)
    for name in ("code/step.py", "code/deep/.step.py.swp"):
        (tmp_path / name).touch()
    try:
        for ignored, expected in (("", 2), ("*.swp", 1)):
            (tmp_path / ".dvcignore").write_text(f"{ignored}\n")
            dvc_files._ignored.cache_clear()
            assert len(list(dvc_files.files([tmp_path / "code"]))) == expected
        (tmp_path / ".dvcignore").write_text("step.py\n")
        dvc_files._ignored.cache_clear()
        with pytest.raises(InputError, match=r"leaves out code/step.py: DVC would not see it"):
            list(dvc_files.files([tmp_path / "code"]))
    finally:
        dvc_files._ignored.cache_clear()


@pytest.mark.parametrize("content", [b"", b"\xff" * 40, b"\x10" + b"\0" * 7 + b"{"])
def test_weights_that_are_corrupt_say_nothing_of_their_origin(
    content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(ROOT / "params.yaml", tmp_path)
    weights = Path("data/trained/cnn/0/model.safetensors")
    weights.parent.mkdir(parents=True)
    weights.write_bytes(content)  # of the second the header would be as long as no memory is
    outs = [{"path": str(weights.parent), "md5": "0" * 32 + ".dir"}]
    assert false_records.find({"train@cnn-0": {"outs": outs}}) == {}
