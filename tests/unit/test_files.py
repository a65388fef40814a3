"""Outputs appear complete or not at all, and nothing else is lost to them."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pipeline.storage.atomic import atomic_folder
from pipeline.system.errors import InputError


def write(folder: Path, text: str) -> None:
    with atomic_folder(folder, "known.json") as staging:
        (staging / "known.json").write_text(text)


def fail_half_way(folder: Path) -> None:
    with atomic_folder(folder, "known.json") as staging:
        (staging / "known.json").write_text("half of it")
        raise ZeroDivisionError


def test_new_files_replace_the_old_ones(tmp_path: Path) -> None:
    write(tmp_path / "a" / "out", "1")
    (tmp_path / "a" / "out" / "left over").touch()
    write(tmp_path / "a" / "out", "2")
    assert [path.name for path in (tmp_path / "a" / "out").iterdir()] == ["known.json"]
    assert (tmp_path / "a" / "out" / "known.json").read_text() == "2"
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["out"]


def test_failure_leaves_what_was_there_and_nothing_else(tmp_path: Path) -> None:
    out = tmp_path / "out"
    write(out, "1")
    with pytest.raises(ZeroDivisionError):
        fail_half_way(out)
    assert (out / "known.json").read_text() == "1"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_remains_of_a_killed_run_are_removed(tmp_path: Path) -> None:
    (tmp_path / ".incomplete-out").mkdir()
    (tmp_path / ".incomplete-out" / "half").touch()
    write(tmp_path / "out", "1")
    assert [path.name for path in tmp_path.rglob("*")] == ["out", "known.json"]


def test_folder_of_another_program_is_refused_and_kept(tmp_path: Path) -> None:
    photo = tmp_path / "photos" / "cat" / "a.jpg"
    photo.parent.mkdir(parents=True)
    photo.write_bytes(b"the only one")
    with pytest.raises(InputError, match=r"holds what this stage didn't write \(cat\)"):
        write(tmp_path / "photos", "1")
    with pytest.raises(InputError, match="would lose it"):
        write(tmp_path, "1")
    assert photo.read_bytes() == b"the only one"


def test_file_in_the_way_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="is not a folder"):
        write(tmp_path / "file", "1")
    with pytest.raises(InputError, match="can't be made"):
        write(tmp_path / "file" / "out", "1")


def test_link_to_a_folder_elsewhere_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "out").symlink_to(tmp_path / "disk")
    write(tmp_path / "out", "1")
    assert (tmp_path / "out").is_symlink()
    assert (tmp_path / "disk" / "known.json").read_text() == "1"


def test_second_writer_waits_for_the_first(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, said = tmp_path / "out", ""
    with ThreadPoolExecutor() as threads:
        with atomic_folder(out, "known.json") as staging:
            second = threads.submit(write, out, "2")
            while "waiting until it has finished" not in said:
                assert not second.done()
                time.sleep(0.01)
                said += capsys.readouterr().err
            (staging / "known.json").write_text("1")
        second.result(timeout=60)
    assert (out / "known.json").read_text() == "2"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_kill_between_the_two_renames_loses_nothing(tmp_path: Path) -> None:
    replaced = tmp_path / ".incomplete-out-replaced"
    write(replaced, "1")
    with pytest.raises(ZeroDivisionError):
        fail_half_way(tmp_path / "out")
    assert (tmp_path / "out" / "known.json").read_text() == "1"
    assert not replaced.exists()
