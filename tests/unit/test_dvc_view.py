"""What DVC doesn't see of a person's own files is refused: asked of the real DVC."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from dvc.fs import localfs
from dvc.ignore import DvcIgnoreFilter
from dvc.repo import Repo

from pipeline.engines import dvc_view
from pipeline.system.errors import InputError


def images(folder: Path, *classes: str) -> None:
    for name in classes:
        (folder / name / "more").mkdir(parents=True)
        (folder / name / "0.png").write_bytes(b"an image")
        (folder / name / "more" / "1.png").write_bytes(b"another")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give a DVC project with two classes in ``pets``, as working folder."""
    folder = tmp_path / "project"
    folder.mkdir()
    monkeypatch.chdir(folder)
    Repo.init(no_scm=True)
    images(folder / "pets", "cat", "dog")
    return folder


def hashed(path: Path) -> set[Path]:
    """The files of which DVC takes the checksums where a stage depends on a folder."""
    repo = Repo()
    stage = repo.stage.create(name="look", cmd="true", deps=[str(path)])
    (dep,) = stage.deps
    dep.save()
    return {path.joinpath(*key) for key, _, _ in dep.get_obj()}


def link_folder(pets: Path) -> None:
    images(pets.parent / "elsewhere", "emu")
    (pets / "emu").symlink_to("../elsewhere/emu")


def link_folder_below(pets: Path) -> None:
    images(pets.parent / "elsewhere", "emu")
    (pets / "cat" / "linked").symlink_to(pets.parent / "elsewhere")


def link_class_that_was_real(pets: Path) -> None:
    (pets / "cat").rename(pets.parent / "cat")
    (pets / "cat").symlink_to(pets.parent / "cat")


def nest_project(pets: Path) -> None:
    (pets / "cat" / ".dvc").mkdir()


def nest_project_below(pets: Path) -> None:
    (pets / "cat" / "more" / ".dvc").mkdir()


def nest_project_around(pets: Path) -> None:
    (pets / ".dvc").mkdir()


def ignore_in_project(pets: Path) -> None:
    (pets.parent / ".dvcignore").write_text("/pets/cat/more/\n")


def ignore_by_pattern(pets: Path) -> None:
    (pets.parent / ".dvcignore").write_text("*.png\n!0.png\n")


UNSEEN: dict[str, tuple[Callable[[Path], None], str, str]] = {
    "linked class": (link_folder, "'pets/emu' is a link to a folder; ", "cp -rlL makes hard links"),
    "linked folder in a class": (link_folder_below, "'pets/cat/linked' is a link", "cp -rL copies"),
    "class turned into a link": (link_class_that_was_real, "'pets/cat' is a link", "cp -rL"),
    "project in a class": (
        nest_project,
        "'pets/cat' is a DVC project of its own; ",
        "remove the .dvc in it",
    ),
    "project deep in a class": (nest_project_below, "'pets/cat/more' is a DVC", "remove the .dvc"),
    "project around the classes": (nest_project_around, "'pets' is a DVC", "remove the .dvc"),
    "named in .dvcignore": (
        ignore_in_project,
        "'pets/cat/more/1.png' is ignored by DVC; ",
        "take its line out of the .dvcignore, or it out of .git, .hg or .dvc",
    ),
    "named by a pattern": (ignore_by_pattern, "'pets/cat/more/1.png' is ignored", "take its line"),
}


def listed(folder: Path) -> list[Path]:
    """All files of a folder, those behind links too."""
    found = []
    for path in sorted(folder.iterdir()):
        if not path.name.startswith("."):
            found += listed(path) if path.is_dir() else [path]
    return found


@pytest.mark.parametrize("kind", UNSEEN)
def test_what_dvc_takes_no_checksum_of_is_refused_with_the_cure(project: Path, kind: str) -> None:
    make, place, cure = UNSEEN[kind]
    pets = Path("pets")
    make(project / pets)
    assert hashed(pets) < set(listed(pets))
    with pytest.raises(InputError, match=r"params.yaml: data.path: 'pets': DVC would not") as error:
        dvc_view.refuse_unseen(listed(pets), pets)
    assert place in str(error.value)
    assert cure in str(error.value)
    assert "\n" not in str(error.value)


def test_what_dvc_takes_the_checksum_of_is_accepted(project: Path) -> None:
    pets = Path("pets")
    (project / "0.png").write_bytes(b"elsewhere")
    (pets / "cat" / "soft.png").symlink_to(project / "0.png")
    (pets / "cat" / "hard.png").hardlink_to(project / "0.png")
    (pets / "cat" / "a [b]*.png").write_bytes(b"a pattern")
    (pets / "größe\n").mkdir()
    (pets / "größe\n" / "猫.png").write_bytes(b"an image")
    assert hashed(pets) == set(listed(pets))
    dvc_view.refuse_unseen(listed(pets), pets)


@pytest.mark.parametrize("kind", ["linked class", "project in a class", "class turned into a link"])
def test_outside_of_the_project_only_links_are_unseen(project: Path, kind: str) -> None:
    pets = project.parent / "pets"
    (project / "pets").rename(pets)
    UNSEEN[kind][0](pets)
    if "link" in kind:
        assert hashed(pets) < set(listed(pets))
        with pytest.raises(InputError, match="is a link to a folder"):
            dvc_view.refuse_unseen(listed(pets), pets)
    else:
        assert hashed(pets) == set(listed(pets))
        dvc_view.refuse_unseen(listed(pets), pets)


def test_a_link_as_the_folder_itself_is_looked_through(project: Path) -> None:
    images(project.parent / "large disk", "cat", "dog")
    link = Path("photos")
    link.symlink_to(project.parent / "large disk")
    assert hashed(link) == set(listed(link)) != set()
    dvc_view.refuse_unseen(listed(link), link)


def test_dvc_looks_at_the_files_of_which_it_takes_the_checksums(project: Path) -> None:
    for make in (link_folder, nest_project, ignore_by_pattern):
        make(project / "pets")
    found = DvcIgnoreFilter(localfs, str(project)).find(localfs, str(project / "pets"))
    assert {Path(path).relative_to(project) for path in found} == hashed(Path("pets"))


def test_without_a_project_nothing_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    images(tmp_path / "pets", "cat")
    link_folder(tmp_path / "pets")
    dvc_view.refuse_unseen(listed(Path("pets")), Path("pets"))


def test_the_first_few_are_named(project: Path) -> None:
    for number in range(5):
        (project / "pets" / f"linked {number}").symlink_to("cat")
    with pytest.raises(InputError, match=r"'pets/linked 2' is a link to a folder; and 2 more; put"):
        dvc_view.refuse_unseen(listed(Path("pets")), Path("pets"))


def test_md5_of_own_files_is_that_which_dvc_records(project: Path) -> None:
    repo = Repo()
    stage = repo.stage.create(name="look", cmd="true", deps=["pets"])
    stage.save()
    (dependency,) = stage.deps
    before = dvc_view.md5(Path("pets"))
    assert before == {"pets": dependency.hash_info.value}
    (project / "pets" / "cat" / "0.png").write_bytes(b"another image")
    assert dvc_view.md5(Path("pets")) != before


def test_of_what_dvc_can_not_read_there_is_no_md5(project: Path) -> None:
    (project / "pets" / "cat" / "1.png").symlink_to("nothing")
    assert dvc_view.md5(Path("pets")) == {}


def test_without_dvc_there_is_no_md5(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images(tmp_path / "pets", "cat")
    monkeypatch.chdir(tmp_path)
    assert dvc_view.md5(Path("pets")) == {}
