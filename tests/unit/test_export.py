"""`export`: the file alone gives the logits that `evaluate` wrote."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from ruamel.yaml import YAML

from pipeline.cli import main
from pipeline.commands import export
from pipeline.models.attention import ATTENTIONS
from pipeline.settings import presets
from pipeline.settings.yaml_file import read

LARGEST_DIFFERENCE = 1e-5  # of logits of a few units: rounding in another order

# What is trained besides the four architectures of the preset: name, the entry it changes, changes.
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    **{
        f"{attention}_cnn": ("cnn", {"attention": attention})
        for attention in ATTENTIONS
        if attention not in ("none", "channel")
    },
    "self_attention_densenet": ("densenet", {"attention": "self_attention"}),
    "coordinate_in_one_block": ("cnn", {"attention": "coordinate", "attention_at": [2]}),
    "simam_in_transitions": ("densenet", {"attention": "simam", "attention_at": "transitions"}),
    "coordinate_after_blocks": ("densenet", {"attention": "coordinate", "attention_at": "blocks"}),
    "instance_norm_cnn": ("cnn", {"normalisation": "instance"}),
    "efficient_densenet": ("densenet", {"efficient": True, "attention": "cbam"}),
}
LIBRARY = {
    "resnet18": {"family": "torchvision", "name": "resnet18", "small_inputs": True},
    "seresnet18": {"family": "timm", "name": "seresnet18", "small_inputs": True},
}
MODELS = ("cnn", "ca_cnn", "densenet", "se_densenet", *VARIANTS, *LIBRARY)


def command(*arguments: str | Path) -> int:
    """Run a command line as ``python -m pipeline`` would; return its exit code."""
    with pytest.raises(SystemExit) as ended:
        raise SystemExit(main([str(argument) for argument in arguments]))
    return int(ended.value.code or 0)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with divided digits and settings that list every architecture."""
    folder = tmp_path_factory.mktemp("project")
    content = presets.values("smoke")
    architectures = content["architectures"]
    for name, (changed, changes) in VARIANTS.items():
        architectures[name] = architectures[changed] | changes | {"baseline": None}
    architectures |= {name: entry | {"baseline": None} for name, entry in LIBRARY.items()}
    content["train"]["epochs"] = 1
    content["compute"] |= {"device": "cpu", "precision": "fp32"}
    with (folder / "params.yaml").open("w", encoding="utf-8") as file:
        YAML(typ="safe", pure=True).dump(content, file)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert command("download") == command("split") == 0
    return folder


@pytest.fixture
def workplace(project: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(project)
    return project


def train(model: str, seed: int = 0) -> None:
    """Train and evaluate, unless that is done."""
    if not Path(f"data/evaluated/{model}/{seed}").exists():
        for stage in ("train", "evaluate"):
            assert command(stage, "--model", model, "--seed", str(seed)) == 0


def exported(model: str, file_format: str) -> Path:
    """Train, evaluate and export, unless that is done; return the file."""
    train(model)
    path = Path("exports") / f"{model}-0{FILES[file_format][0]}"
    if not path.exists():
        assert command("export", "--model", model, "--format", file_format) == 0
    return path


def read_test_images() -> np.ndarray:
    """The test images as the exported networks take them, float32 (N, C, H, W) in [0, 1]."""
    with Path("data/splits/index.csv").open(encoding="utf-8", newline="") as file:
        test = [row for row, entry in enumerate(csv.DictReader(file)) if entry["split"] == "test"]
    pixels = np.load("data/splits/images.npy")[test]
    return (pixels.transpose(0, 3, 1, 2) / 255).astype(np.float32)


def run_onnx(path: Path, batches: Sequence[np.ndarray]) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return [session.run(None, {name: images})[0] for images in batches]


def run_pt2(path: Path, batches: Sequence[np.ndarray]) -> list[np.ndarray]:
    network = torch.export.load(path).module()
    return [network(torch.from_numpy(images)).numpy() for images in batches]


Run = Callable[[Path, Sequence[np.ndarray]], list[np.ndarray]]
FILES: dict[str, tuple[str, Run]] = {"onnx": (".onnx", run_onnx), "pt2": (".pt2", run_pt2)}


@pytest.mark.parametrize("file_format", FILES)
@pytest.mark.parametrize("model", MODELS)
def test_file_gives_the_logits_of_evaluate(model: str, file_format: str, workplace: Path) -> None:
    path, run = exported(model, file_format), FILES[file_format][1]
    images, evaluated = read_test_images(), np.load(f"data/evaluated/{model}/0/logits.npy")
    logits, *alone = run(path, [images, *np.split(images[:3], 3)])
    np.testing.assert_allclose(logits, evaluated, atol=LARGEST_DIFFERENCE)
    np.testing.assert_allclose(np.concatenate(alone), evaluated[:3], atol=LARGEST_DIFFERENCE)


FRESH_PROCESS = """
import sys
import numpy as np
import torch
images, logits, *programs = sys.argv[1:]
given = torch.from_numpy(np.load(images))
np.savez(logits, *[torch.export.load(program).module()(given).numpy() for program in programs])
sys.exit("it imports the project" if "pipeline" in sys.modules else 0)
"""


def test_program_runs_where_nothing_of_this_project_is(workplace: Path, tmp_path: Path) -> None:
    models = ("ca_cnn", "self_attention_densenet", "resnet18")
    programs = [exported(model, "pt2") for model in models]
    images, logits = tmp_path / "images.npy", tmp_path / "logits.npz"
    np.save(images, read_test_images())
    script = (sys.executable, "-I", "-c", FRESH_PROCESS, images, logits, *programs)
    subprocess.run(script, check=True)
    with np.load(logits) as found:
        for model, given in zip(models, found.values(), strict=True):
            evaluated = np.load(f"data/evaluated/{model}/0/logits.npy")
            np.testing.assert_allclose(given, evaluated, atol=LARGEST_DIFFERENCE)


@pytest.mark.parametrize("file_format", FILES)
def test_seed_and_file_can_be_chosen(file_format: str, workplace: Path, tmp_path: Path) -> None:
    train("cnn", 1)
    ending, run = FILES[file_format]
    out = tmp_path / "new" / f"mine{ending}"
    arguments = ("--model", "cnn", "--seed", "1", "--format", file_format, "--out", out)
    assert command("export", *arguments) == 0
    evaluated = np.load("data/evaluated/cnn/1/logits.npy")
    (logits,) = run(out, [read_test_images()])
    np.testing.assert_allclose(logits, evaluated, atol=LARGEST_DIFFERENCE)
    assert list(out.parent.iterdir()) == [out]


def test_the_candidate_is_exported_where_no_model_is_named(workplace: Path, tmp_path: Path) -> None:
    candidate = read(Path("params.yaml"))["model"]
    train(candidate)
    out = tmp_path / "candidate.pt2"
    assert command("export", "--format", "pt2", "--out", out) == 0
    assert pt2_metadata(out)["model"] == candidate


def onnx_metadata(path: Path) -> dict[str, Any]:
    properties = onnx.load(path).metadata_props
    return {entry.key: json.loads(entry.value) for entry in properties}


def pt2_metadata(path: Path) -> dict[str, Any]:
    held = {"metadata.json": ""}
    torch.export.load(path, extra_files=held)
    return json.loads(held["metadata.json"])


@pytest.mark.parametrize(
    ("file_format", "read_metadata"),
    [("onnx", onnx_metadata), ("pt2", pt2_metadata)],
)
def test_file_says_what_it_is(
    file_format: str, read_metadata: Callable[[Path], dict[str, Any]], workplace: Path
) -> None:
    metadata = read_metadata(exported("cnn", file_format))
    described = json.loads(Path("data/splits/dataset.json").read_text(encoding="utf-8"))
    for key in ("classes", "image_size", "channels"):
        assert metadata[key] == described[key]
    np.testing.assert_allclose(metadata["mean"], described["mean"], atol=1e-7)
    np.testing.assert_allclose(metadata["std"], described["std"], atol=1e-7)
    assert (metadata["model"], metadata["seed"], metadata["torch"]) == ("cnn", 0, torch.__version__)
    assert "version" in metadata


@pytest.mark.parametrize("file_format", FILES)
def test_file_with_other_logits_is_not_left(
    file_format: str,
    workplace: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    train("cnn")
    monkeypatch.setattr(
        export.Normalising, "forward", lambda self, images: self.network(images - self.mean)
    )
    out = tmp_path / f"wrong{FILES[file_format][0]}"
    capsys.readouterr()
    assert command("export", "--model", "cnn", "--format", file_format, "--out", out) == 1
    assert "not written: the exported cnn gives logits that differ by" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_earlier_file_stays_where_the_new_one_is_wrong(
    workplace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train("cnn")
    out = tmp_path / "cnn.pt2"
    arguments = ("export", "--model", "cnn", "--format", "pt2", "--out", out)
    assert command(*arguments) == 0
    before = out.read_bytes()
    monkeypatch.setattr(
        export.Normalising, "forward", lambda self, images: self.network(images - self.mean)
    )
    assert command(*arguments) == 1
    assert out.read_bytes() == before


def test_missing_packages_are_named_with_what_installs_them(
    workplace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    train("cnn")
    monkeypatch.setattr(export, "find_spec", lambda name: None if name == "onnxruntime" else name)
    capsys.readouterr()
    assert command("export", "--model", "cnn", "--format", "onnx") == 2
    message = capsys.readouterr().err
    assert "python -m pip install onnx onnxscript onnxruntime" in message
    assert message.count("\n") == 1


@pytest.mark.parametrize("file_format", FILES)
def test_one_line_about_the_file_is_all_that_is_printed(
    file_format: str, workplace: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    train("densenet")
    capfd.readouterr()
    assert command("export", "--model", "densenet", "--format", file_format) == 0
    printed = capfd.readouterr()
    assert printed.err == ""
    (line,) = printed.out.splitlines()
    assert line.startswith(f"exports/densenet-0{FILES[file_format][0]}: on 32 test images")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--seed", "7"), "--seed: 7 is not one of 0, 1"),
        (("--out", "network.txt"), "--out: 'network.txt' has to end in .pt2"),
        (("--seed", "1", "--model", "ca_cnn"), "train --model ca_cnn --seed 1"),
        (("--out", "params.yaml/network.pt2"), "--out: 'params.yaml' is not a folder"),
    ],
)
def test_wrong_input_is_refused(
    arguments: tuple[str, ...],
    message: str,
    workplace: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    train("cnn")
    capsys.readouterr()
    assert command("export", "--model", "cnn", "--format", "pt2", *arguments) == 2
    assert message in capsys.readouterr().err
