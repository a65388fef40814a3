"""`data.path` and the outputs as the engines need them, before any stage runs."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from pipeline.engines import preflight
from pipeline.paths import OUTPUTS
from pipeline.settings import presets
from pipeline.settings.schema import Settings
from pipeline.system.errors import InputError

ROOT = Path(__file__).parents[2]


def settings(path: str, name: str = "image_folder") -> Settings:
    content = presets.values("smoke")
    content["data"] |= {"path": path, "name": name}
    if name == "image_folder":
        content["data"]["image_size"] = 8
    return Settings.model_validate(content)


def pets(folder: Path) -> Path:
    for name in ("cat", "dog"):
        (folder / name).mkdir(parents=True)
        (folder / name / "0.png").write_bytes(b"an image")
    return folder


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give a project with a folder of images in ``data/local``, as working folder."""
    folder = tmp_path / "project"
    pets(folder / "data" / "local")
    monkeypatch.chdir(folder)
    return folder


def check(path: str = "data/local", name: str = "image_folder") -> None:
    preflight.check(settings(path, name), Path(), OUTPUTS)


def refused(path: str = "data/local", name: str = "image_folder") -> str:
    with pytest.raises(InputError) as error:
        check(path, name)
    assert "\n" not in str(error.value)
    return str(error.value)


# --- whose folder it is ---------------------------------------------------------------------------


def test_no_folder_of_the_project_that_git_tracks_or_ignores_is_for_images(project: Path) -> None:
    tracked = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    folders = {Path(path).parts[0] for path in tracked if "/" in path} - {"data"}
    ignored = (ROOT / ".gitignore").read_text().splitlines()
    folders |= {line.strip("/") for line in ignored if line.startswith("/") and line.endswith("/")}
    folders |= {".git", ".dvc", ".cache", "logs", ".venv", "pipeline", "predictions"}
    for folder in sorted(folders):
        (project / folder / "deeper").mkdir(parents=True, exist_ok=True)
        for path in (folder, f"{folder}/deeper", f"./{folder}/", str(project / folder)):
            for name in ("image_folder", "digits"):
                assert f"params.yaml: data.path: '{path}'" in refused(path, name)


@pytest.mark.parametrize("path", [".", "..", "data", "data/raw", "./", "data/local/../.."])
def test_the_project_itself_is_not_for_images(project: Path, path: str) -> None:
    (project / "data" / "raw").mkdir()
    assert "the pipeline writes " in refused(path)


def test_a_link_into_the_code_is_found(project: Path) -> None:
    (project / "pipeline").mkdir()
    (project / "photos").symlink_to("pipeline")
    assert "pipeline is not for images; take another folder, such as" in refused("photos")


@pytest.mark.parametrize(
    "path", ["data/local", "data/my images", "photos", "photos/logs", "../pipeline", "../.photos"]
)
def test_any_other_folder_is_accepted(project: Path, path: str) -> None:
    if path != "data/local":
        pets(project / path)
    check(path)
    check(str((project / path).resolve()))


# --- what DVC can't see ---------------------------------------------------------------------------


def test_links_to_folders_are_refused_without_asking_dvc(project: Path) -> None:
    for place in ("emu", "cat/more"):
        (project / "data" / "local" / place).symlink_to(pets(project / f"elsewhere {place[:3]}"))
    message = refused()
    assert "'data/local/emu' is a link to a folder; 'data/local/cat/more' is a link" in message
    assert "cp -rlL makes hard links" in message
    check(name="digits")


def test_path_that_goes_up_from_behind_a_link_is_refused(project: Path) -> None:
    """Python reads the folder beside what the link leads to, DVC the one beside the link."""
    pets(project.parent / "elsewhere" / "photos")
    (project.parent / "elsewhere" / "sub").mkdir()
    (project / "data" / "photos").symlink_to(pets(project.parent / "others"))
    (project / "data" / "linked").symlink_to(project.parent / "elsewhere" / "sub")
    message = refused("data/linked/../photos")
    assert "goes up from behind a link, where DVC looks elsewhere" in message
    assert message.endswith(f"write '{project.parent}/elsewhere/photos'")
    check("data/../data/local")


def test_a_project_in_a_class_is_refused_but_not_outside_of_this_project(project: Path) -> None:
    (project / "data" / "local" / "cat" / ".dvc").mkdir()
    assert "'data/local/cat' is a DVC project of its own; remove the .dvc" in refused()
    (project / "data" / "local").rename(project.parent / "pets")
    check("../pets")


def test_ignore_file_is_refused_since_dvc_stops_at_it(project: Path) -> None:
    (project / "data" / "local" / "cat" / ".dvcignore").touch()
    assert "'cat/.dvcignore' is refused by DVC in a folder" in refused()


def test_links_to_files_and_a_link_as_the_folder_itself_are_accepted(project: Path) -> None:
    place = project / "data" / "local"
    (place / "cat" / "1.png").symlink_to("0.png")
    (place / "cat" / "2.png").hardlink_to(place / "cat" / "0.png")
    check()
    place.rename(project.parent / "large disk")
    place.symlink_to(project.parent / "large disk")
    check()


def test_what_systems_make_is_no_obstacle(project: Path) -> None:
    place = project / "data" / "local"
    (place / "@eaDir").symlink_to(pets(project / "thumbnails"))
    (place / "cat" / ".thumbnails").symlink_to(project / "thumbnails")
    (place / "#recycle" / ".dvc").mkdir(parents=True)
    check()


# what a person to whom permissions matter gets of `check` and of DVC: only root can't be kept out
AS_NOBODY = """
import os
from pathlib import Path
from dvc.repo import Repo
from pipeline.data.sources.image_folder import own_files
from pipeline.engines import preflight
from pipeline.paths import OUTPUTS
from pipeline.system.errors import InputError
from tests.unit.test_preflight import settings
chosen, repo = settings("data/local"), Repo.init(no_scm=True)
(dep,) = repo.stage.create(name="look", cmd="true", deps=["data/local"]).deps
dep.save()
for place, folders, files in os.walk(os.environ["DVC_SITE_CACHE_DIR"]):
    for name in (".", *files):
        os.chown(os.path.join(place, name), {nobody}, {nobody})
if os.geteuid() == 0:
    os.setgroups([])
    os.setresgid({nobody}, {nobody}, {nobody})
    os.setresuid({nobody}, {nobody}, {nobody})
try:
    preflight.check(chosen, Path(), OUTPUTS)
except InputError as error:
    print(error)
else:
    dep.save()
    assert [path.parent.name for path in own_files(chosen.data)] == ["cat", "dog"]
    print(sorted("/".join(key) for key, _, _ in dep.get_obj()))
"""


@pytest.mark.parametrize(
    ("name", "accepted"),
    [
        *(("lost+found", True), (".Trashes", True), ("@eaDir", True), ("cat/@eaDir", True)),
        *(("emu", False), ("cat/more", False)),
    ],
)
def test_unreadable_folder_is_an_obstacle_unless_a_system_made_it(
    name: str, accepted: bool
) -> None:
    with tempfile.TemporaryDirectory() as root:
        Path(root).chmod(0o755)  # other than pytest's own, so that nobody can get at it
        place = pets(Path(root, "data", "local")) / name
        place.mkdir()
        place.chmod(0)
        done = subprocess.run(
            [sys.executable, "-c", AS_NOBODY.format(nobody=65534)],
            cwd=root,
            env=os.environ | {"PYTHONPATH": str(ROOT), "DVC_SITE_CACHE_DIR": f"{root}/site"},
            capture_output=True,
            text=True,
            check=False,
        )
        place.chmod(0o755)
    assert not done.returncode, done.stderr
    refusal = f"data/local/{name}: can't be read: Permission denied; see to its permissions"
    expected = "['cat/0.png', 'dog/0.png']" if accepted else refusal
    assert done.stdout.splitlines()[-1] == expected


# --- outputs --------------------------------------------------------------------------------------


@pytest.mark.parametrize("link", ["data", "data/trained", "reports", "reports/figures"])
def test_outputs_behind_a_link_are_refused_with_the_cure(project: Path, link: str) -> None:
    (project / link).mkdir(parents=True, exist_ok=True)
    (project / link).rename(project.parent / "large disk")
    (project / link).symlink_to(project.parent / "large disk")
    for name in ("image_folder", "digits"):
        message = refused(name=name)
        assert message.startswith(f"{link}: is a link, and DVC takes no outputs behind one")
        assert "mount --bind" in message
        assert "dvc cache dir" in message


@pytest.mark.parametrize("link", ["data/raw", "data/splits", "data/measured", ".cache"])
def test_an_output_may_be_a_link_itself(project: Path, link: str) -> None:
    (project / link).parent.mkdir(exist_ok=True)
    (project / link).symlink_to(pets(project.parent / "large disk"))
    check()
