"""Two stages of training by the real engines: digits first, then a person's own images."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file

from tests.pipeline.test_own_images import own_images
from tests.projects import Project, checkout

pytestmark = pytest.mark.slow

FILE = Path("data/weights/digits.safetensors")


def refusal(project: Project) -> str:
    return project.run("python", "-m", "pipeline", "check", expect=2).stderr


def test_own_images_start_from_a_training_on_digits(tmp_path: Path) -> None:
    digits, project = checkout(tmp_path / "digits"), checkout(tmp_path / "own")
    digits.dvc("repro", "train@cnn-0")
    own_images(project.root / "data" / "my images")
    project.leave_architectures("cnn", "ca_cnn")
    project.edit("seeds: [0, 1]", "seeds: [0]")
    project.edit("  name: digits ", "  name: image_folder ")
    project.edit("  path: data/local ", "  path: data/my images ")
    project.edit("  max_per_class: 30 ", "  max_per_class: null ")
    project.edit("  freeze: 0 ", "  freeze: 2 ")
    project.edit("    weights: null ", f"    weights: {FILE} ")
    assert "architectures.cnn.weights: 'data/weights/digits.safetensors' can't" in refusal(project)

    (project.root / FILE).parent.mkdir()
    shutil.copy(digits.root / "data/trained/cnn/0/model.safetensors", project.root / FILE)
    sha256 = hashlib.sha256((project.root / FILE).read_bytes()).hexdigest()
    assert f"add sha256: {sha256}" in refusal(project)
    project.edit("    sha256: null ", f"    sha256: {sha256} ")
    project.commit("own images, from digits")
    project.snakemake()
    assert project.is_clean()
    assert project.plans_nothing()

    given, learnt = (
        load_file(path)
        for path in (project.root / FILE, project.root / "data/trained/cnn/0/model.safetensors")
    )
    # both epochs are frozen: what was taken has its bits still
    same = {name for name in given if name in learnt and given[name].equal(learnt[name])}
    grey = {"block1.conv.weight"}  # of digits; these images are RGB
    assert set(given) - same == {"classifier.weight", "classifier.bias", *grey}
    spread = given["block1.conv.weight"].expand(-1, 3, -1, -1) / 3
    assert learnt["block1.conv.weight"].equal(spread)
    found = json.loads((project.root / "data/trained/ca_cnn/0/train.json").read_text())
    assert found["pretrained"]["sha256"] == sha256
    assert "block1.attention.excite.weight" in found["pretrained"]["made_new"]
    report = (project.root / "reports" / "report.md").read_text()
    section = report.partition("### Pretrained weights")[2].partition("\n### ")[0]
    assert section.count(f"digits.safetensors | `{sha256}`") == 2
    assert "attention of `ca_cnn` is new and begins without effect" in section

    # another content is refused until the settings say that it is meant; then both train again
    shutil.copy(project.root / "data/trained/cnn/0/model.safetensors", project.root / FILE)
    assert "it has changed" in refusal(project)
    assert "it has changed" in project.snakemake(expect=1).stderr
    assert project.is_clean()
    other = hashlib.sha256((project.root / FILE).read_bytes()).hexdigest()
    project.edit(f"    sha256: {sha256}", f"    sha256: {other}")
    changed = project.dvc("status", "train@cnn-0", "train@ca_cnn-0").stdout
    assert changed.count("architectures.") == 2
    project.dvc("repro", "--single-item", "train@cnn-0")
    record = json.loads((project.root / "data/trained/cnn/0/train.json").read_text())
    assert record["pretrained"]["sha256"] == other


def test_a_training_of_another_network_ends_with_the_names_that_do_not_fit(tmp_path: Path) -> None:
    project = checkout(tmp_path / "project")
    project.leave_architectures("cnn", "densenet")
    project.dvc("repro", "train@cnn-0")
    source = project.root / "data/trained/cnn/0/model.safetensors"
    sha256 = hashlib.sha256(source.read_bytes()).hexdigest()
    (project.root / FILE).parent.mkdir()
    shutil.copy(source, project.root / FILE)
    nothing = "    weights: null\n    sha256: null\n"  # the first entry has comments behind these
    project.edit(nothing, f"    weights: {FILE}\n    sha256: {sha256}\n")
    done = project.run(
        "python", "-m", "pipeline", "train", "--model", "densenet", "--seed", "0", expect=2
    )
    last = done.stderr.strip().splitlines()[-1]
    assert "is of another network (not in the file: stem.conv.weight" in last
    assert "not in the network: block1.conv.bias, block1.conv.weight" in last
