"""Every page holds: its commands, code, settings and outputs, followed in order as written."""

from __future__ import annotations

import getpass
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.docs.pages import PAGES, blocks
from tests.docs.reader import Reader
from tests.pipeline.test_remotes import Server, server
from tests.projects import Project, copied

pytestmark = pytest.mark.slow
__all__ = ["server"]  # the fixture

# A reader's own images, and less to train on them than the preset asks for: two of its networks, on
# 32 pixels, for one epoch.
SMALLER = """
import re
from pathlib import Path
import numpy as np
from PIL import Image
from tests.projects import Project

random = np.random.default_rng(0)
for label, name in enumerate(("cat", "dog/more")):
    folder = Path("data/local", name)
    folder.mkdir(parents=True)
    for number in range(20):
        pixels = random.integers(0, 100, (20, 30, 3)) + 150 * label
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{number}.png")

Project(Path()).leave_architectures("densenet", "se_densenet")
path = Path("params.yaml")
text = path.read_text()
small = {"image_size": 32, "epochs": 1, "faithfulness_images": 4}
small |= {"block_config": "[2, 2]", "small_inputs": "true", "growth_rate": 16}
small |= {"latency_repeats": 5, "faithfulness_steps": 4, "random_networks": 3}
for setting, value in small.items():
    text = re.sub(rf"^( +{setting}:) [^#\\n]+", rf"\\1 {value} ", text, flags=re.MULTILINE)
path.write_text(re.sub(r"^seeds: .*", "seeds: [0]", text, flags=re.MULTILINE))
"""


def own_images(project: Project) -> Reader:
    """A reader who has put images of two classes where the page says."""
    (project.root / ".cache" / "smaller.py").write_text(SMALLER)
    preset = "python -m pipeline preset image_folder"
    return Reader(
        project, stands_for={preset: f"{preset} && PYTHONPATH=. python .cache/smaller.py"}
    )


def shared(project: Project) -> Reader:
    """A place for the code and one for the outputs; the environment is there already."""
    return Reader(
        project,
        stands_for={
            "/shared/storage": f"{project.root}.storage",
            "ADDRESS": f"{project.root}.git",
            "make setup": f"ln -s {project.root}/.venv .venv",
        },
    )


PREPARED: dict[str, Callable[[Project], Reader]] = {
    "README.md": own_images,
    "docs/own_images.md": own_images,
    "docs/experiments.md": shared,
}
OVER_SSH = "docs/remotes.md"


@pytest.mark.parametrize("page", [page for page in PAGES if page != OVER_SSH])
def test_page_holds_as_written(page: str, finished: Project, tmp_path: Path) -> None:
    if all("not run" in block.marks for block in blocks(page)):
        return  # tests/docs/test_words.py parses the commands
    reader = PREPARED.get(page, Reader)(copy_of(finished, tmp_path / "project"))
    for block in blocks(page):
        reader.follow(block)
    assert reader.ran


@pytest.mark.needs("sshd")
def test_page_about_remotes_holds_over_ssh(
    finished: Project, server: Server, tmp_path: Path
) -> None:
    project = copy_of(finished, tmp_path / "project")
    home = tmp_path / "home" / ".ssh"
    home.mkdir(parents=True)
    for name, path in (("id_ed25519", server.key), ("id_ed25519.pub", f"{server.key}.pub")):
        (home / name).symlink_to(path)
    reader = Reader(
        project,
        variables={"HOME": str(home.parent)},
        stands_for={
            "host.example.org/srv/regard": f"127.0.0.1:{server.port}{server.storage}",
            "storage user me": f"storage user {getpass.getuser()}",
            "storage user you": f"storage user {getpass.getuser()}",
            **shared(project).stands_for,
        },
    )
    for block in blocks(OVER_SSH):
        reader.follow(block)


def copy_of(finished: Project, root: Path) -> Project:
    """Copy the finished project and the repository that it was pushed to."""
    project = copied(finished, root)
    project.run("git", "clone", "--quiet", "--bare", ".", f"{root}.git")
    project.run("git", "remote", "set-url", "origin", f"{root}.git")
    return project
