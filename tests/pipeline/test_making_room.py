"""Who makes room as the documents say loses nothing, and takes nothing from another clone."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.docs.pages import PAGES, blocks, inline_code
from tests.projects import Project

pytestmark = pytest.mark.slow
Copy = Callable[[Project], Project]

RESULTS = ("data/**/*", "reports/**/*")


def told(page: str, program: str) -> list[str]:
    """The commands of a page that begin with some words, in its blocks and in its sentences."""
    lines = [line for block in blocks(page) for line in block.text.splitlines()]
    commands = [line.partition(" #")[0].strip() for line in [*lines, *inline_code(page)]]
    return [command for command in commands if command.startswith(f"{program} ")]


def in_section(page: str, word: str) -> list[str]:
    """The commands of the block of a page that has a word in it."""
    (block,) = [block for block in blocks(page) if word in block.text]
    return [line.partition(" #")[0].strip() for line in block.text.splitlines()]


def results(project: Project) -> dict[str, str]:
    return {path: sha256 for one in RESULTS for path, sha256 in project.hashes(one).items()}


def with_margin(project: Project, margin: str) -> dict[str, str]:
    """Commit the results of another margin to a branch of the clone's own; return their sha256."""
    project.run("git", "switch", "--quiet", "--create", f"margin-{margin}")
    project.edit("  margin: 0.5 ", f"  margin: {margin} ")
    project.dvc("repro")
    project.commit(margin)
    return results(project)


@pytest.fixture
def clones(reproduced: Project, copy_of: Copy, tmp_path: Path) -> tuple[Project, Project]:
    """Two clones with a remote in common."""
    first = copy_of(reproduced)
    first.dvc("remote", "add", "--default", "storage", str(tmp_path / "storage"))
    first.commit("a remote")
    first.dvc("push")
    first.run("git", "clone", "--quiet", str(first.root), str(tmp_path / "second"))
    second = Project(tmp_path / "second")
    second.dvc("pull")
    return first, second


def test_making_room_in_one_clone_takes_nothing_from_another(
    clones: tuple[Project, Project],
) -> None:
    first, second = clones
    theirs = with_margin(second, "0.7")
    second.dvc("push")
    ours = with_margin(first, "0.6")
    first.run("git", "switch", "--quiet", "main")
    first.dvc("checkout", "--force")
    first.dvc("exp", "run", "--name", "wide", "--set-param", "report.margin=0.8")
    wide = results(first)

    commands = [command for page in PAGES for command in told(page, "dvc gc")]
    assert commands
    for command in commands:
        first.run(*command.split(), "--force")

    shutil.rmtree(second.root / ".dvc" / "cache")
    for folder in ("data/splits", "data/trained", "data/evaluated", "reports"):
        shutil.rmtree(second.root / folder)
    second.dvc("pull")
    assert results(second) == theirs
    first.dvc("exp", "apply", "wide")
    assert results(first) == wide
    first.run("git", "checkout", "--quiet", "--force", "margin-0.6")
    first.dvc("checkout", "--force")
    assert results(first) == ours


def test_shared_cache_is_replaced_and_every_clone_keeps_its_results(
    clones: tuple[Project, Project], tmp_path: Path
) -> None:
    old, new = tmp_path / "cache", tmp_path / "cache-2"
    for clone in clones:
        clone.dvc("cache", "dir", "--local", str(old))
        clone.dvc("config", "--local", "cache.type", "symlink")
        shutil.copytree(clone.root / ".dvc" / "cache", old, dirs_exist_ok=True)
        shutil.rmtree(clone.root / ".dvc" / "cache")
        clone.dvc("checkout", "--relink", "--force")
    before = [
        with_margin(clone, margin) for clone, margin in zip(clones, ("0.6", "0.7"), strict=True)
    ]

    commands = in_section("docs/cluster.md", "regard-cache-2")
    for clone in clones:
        for command in commands:
            clone.run(*command.replace("/shared/regard-cache-2", str(new)).split())
    shutil.rmtree(old)
    for clone, expected in zip(clones, before, strict=True):
        assert results(clone) == expected
        assert clone.is_clean()
        clone.run("git", "switch", "--quiet", "main")
        clone.dvc("checkout", "--force")
        assert clone.is_clean()


def test_storage_is_replaced_and_every_clone_keeps_its_results(
    clones: tuple[Project, Project], tmp_path: Path
) -> None:
    commands = in_section("docs/remotes.md", "regard-2")
    before = [
        with_margin(clone, margin) for clone, margin in zip(clones, ("0.6", "0.7"), strict=True)
    ]
    address = "ssh://host.example.org/srv/regard-2"
    for clone in clones:
        for command in commands:
            clone.run(*command.replace(address, str(tmp_path / "storage-2")).split())
    shutil.rmtree(tmp_path / "storage")
    for clone, expected in zip(clones, before, strict=True):
        shutil.rmtree(clone.root / ".dvc" / "cache")
        clone.dvc("fetch", "--all-branches")
        clone.dvc("checkout", "--force")
        assert results(clone) == expected
