"""`predict`: other images get the answers that the test images got, whatever file they come in."""

from __future__ import annotations

import csv
import io
import json
import os
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from rich.console import Console
from ruamel.yaml import YAML
from safetensors.torch import load_model
from scipy.special import softmax

from pipeline.cli import main
from pipeline.commands.prediction_answers import (
    Failure,
    Prediction,
    answers_json,
    answers_table,
    print_answers,
)
from pipeline.commands.prediction_figure import draw_prediction, safe_name, save
from pipeline.commands.prediction_images import LONGEST_SIDE, read_image
from pipeline.models import registry
from pipeline.settings import presets
from pipeline.settings.yaml_file import read

CLASSES = ("$disc$", "[bold]square", "stripes")
PER_CLASS = 14
SIZE = 16
RESNET = {"family": "torchvision", "name": "resnet18", "small_inputs": True}

# What is trained: the changes to the smoke preset, and the architecture that is asked.
PROJECTS: dict[str, tuple[dict[str, Any], str]] = {
    "colour": ({}, "ca_cnn"),
    "densenet": ({}, "densenet"),
    "library": ({"architectures.ca_cnn": RESNET | {"baseline": "cnn"}}, "ca_cnn"),
    "grey": ({"data.name": "digits", "data.image_size": 8}, "ca_cnn"),
}
IMAGES = 9  # of the test split


@dataclass(frozen=True)
class Project:
    """A folder with trained and evaluated networks."""

    folder: Path
    model: str
    seeds: list[int]

    def tested(self) -> tuple[np.ndarray, list[str], np.ndarray]:
        """Some test images, the classes, and evaluate's logits of each seed, (M, N, K)."""
        splits = self.folder / "data" / "splits"
        with (splits / "index.csv").open(encoding="utf-8", newline="") as file:
            test = [
                row for row, entry in enumerate(csv.DictReader(file)) if entry["split"] == "test"
            ]
        evaluated = self.folder / "data" / "evaluated" / self.model
        logits = [np.load(evaluated / str(seed) / "logits.npy")[:IMAGES] for seed in self.seeds]
        classes = json.loads((splits / "dataset.json").read_text(encoding="utf-8"))["classes"]
        return np.load(splits / "images.npy")[test[:IMAGES]], classes, np.stack(logits)


def command(*arguments: str | Path) -> int:
    """Run a command line as ``python -m pipeline`` would; return its exit code."""
    with pytest.raises(SystemExit) as ended:
        raise SystemExit(main([str(argument) for argument in arguments]))
    return int(ended.value.code or 0)


def shape(kind: str, random: np.random.Generator) -> Image.Image:
    row, column = np.mgrid[:20, :24]
    inside = {
        CLASSES[0]: (row - 10) ** 2 + (column - 12) ** 2 < 50,
        CLASSES[1]: (abs(row - 10) < 6) & (abs(column - 12) < 6),
        CLASSES[2]: column % 6 < 3,
    }[kind]
    ink, ground = random.integers(0, 256, (2, 3))
    return Image.fromarray(np.where(inside[..., None], ink, ground).astype(np.uint8))


def make_project(folder: Path, changes: Mapping[str, Any], model: str) -> Project:
    content = presets.values("smoke")
    content["data"] |= {"name": "image_folder", "path": "shapes", "image_size": SIZE}
    for path, value in changes.items():
        section, _, key = path.rpartition(".")
        (content[section] if section else content)[key] = value
    with Path("params.yaml").open("w", encoding="utf-8") as file:
        YAML(typ="safe", pure=True).dump(content, file)
    random = np.random.default_rng(0)
    for kind in CLASSES:
        (folder / "shapes" / kind).mkdir(parents=True)
        for number in range(PER_CLASS):
            shape(kind, random).save(folder / "shapes" / kind / f"{number}.png")
    assert command("download") == command("split") == 0
    for seed in content["seeds"]:
        assert command("train", "--model", model, "--seed", str(seed)) == 0
        assert command("evaluate", "--model", model, "--seed", str(seed)) == 0
    return Project(folder, model, content["seeds"])


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Project]:
    """Make a project when it is first asked for."""
    projects: dict[str, Project] = {}

    def get(name: str) -> Project:
        if name not in projects:
            folder = tmp_path_factory.mktemp(name.replace(" ", "_"))
            with pytest.MonkeyPatch.context() as patch:
                patch.chdir(folder)
                projects[name] = make_project(folder, *PROJECTS[name])
        return projects[name]

    return get


@pytest.fixture
def project(made: Callable[[str], Project], monkeypatch: pytest.MonkeyPatch) -> Project:
    """The project of colour images, as working folder."""
    found = made("colour")
    monkeypatch.chdir(found.folder)
    return found


Ask = Callable[..., list[dict[str, Any]]]


@pytest.fixture
def ask(project: Project, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Ask:
    """Ask the project of colour images with ``--json``; what it prints must be JSON alone."""

    def asked(*images: Path, code: int = 0) -> list[dict[str, Any]]:
        capsys.readouterr()
        out = tmp_path / "figures"
        arguments = ("--model", project.model, "--out", out, "--json")
        assert command("predict", *images, *arguments) == code
        return json.loads(capsys.readouterr().out)

    return asked


def probabilities(answer: dict[str, Any], classes: list[str]) -> list[float]:
    """The probability of each class, in the order of the classes."""
    by_name = {entry["class"]: entry["probability"] for entry in answer["predictions"]}
    return [by_name[name] for name in classes]


def save_pixels(images: np.ndarray, folder: Path) -> list[Path]:
    """Write images as PNG, which loses nothing."""
    folder.mkdir()
    paths = [folder / f"{number:03}.png" for number in range(len(images))]
    for image, path in zip(images, paths, strict=True):
        Image.fromarray(image.squeeze(-1) if image.shape[-1] == 1 else image).save(path)
    return paths


@pytest.mark.parametrize("name", PROJECTS)
def test_test_images_get_the_mean_probabilities_of_the_evaluated_logits(
    name: str,
    made: Callable[[str], Project],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    project = made(name)
    monkeypatch.chdir(project.folder)
    images, classes, logits = project.tested()
    save_pixels(images, tmp_path / "images")
    arguments = ("--model", project.model, "--out", tmp_path / "figures")
    assert command("predict", tmp_path / "images", *arguments, "--json", "--top", "99") == 0
    answers = json.loads(capsys.readouterr().out)

    expected = softmax(logits.astype(float), axis=2).mean(axis=0)
    found = [probabilities(answer, classes) for answer in answers]
    np.testing.assert_allclose(found, expected, atol=1e-5)
    for answer, mean, members in zip(answers, expected, logits.swapaxes(0, 1), strict=True):
        ranked = [prediction["probability"] for prediction in answer["predictions"]]
        assert ranked == sorted(ranked, reverse=True)
        agreeing = int((members.argmax(axis=1) == mean.argmax()).sum())
        assert answer["agreement"] == {"agreeing": agreeing, "seeds": len(project.seeds)}
        assert Path(answer["heatmap"]).is_file()


def test_each_fold_normalises_by_its_own_mean_and_std(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    project = make_project(tmp_path, {"split.folds": 2}, "cnn")
    splits = tmp_path / "data" / "splits"
    described = json.loads((splits / "dataset.json").read_text(encoding="utf-8"))
    assert described["mean"][0] != described["mean"][1]
    with (splits / "index.csv").open(encoding="utf-8", newline="") as file:
        fold = np.array([int(entry["fold"]) for entry in csv.DictReader(file)])
    images = np.load(splits / "images.npy")
    architecture = read(Path("params.yaml"))["architectures"]["cnn"]
    logits = []
    for seed in project.seeds:
        network = registry.build(architecture, len(CLASSES), SIZE).eval()
        load_model(network, tmp_path / "data" / "trained" / "cnn" / str(seed) / "model.safetensors")
        inputs = (images / 255 - described["mean"][seed]) / described["std"][seed]
        with torch.inference_mode():
            logits.append(network(torch.tensor(inputs.transpose(0, 3, 1, 2)).float()).numpy())
        evaluated = np.load(tmp_path / "data" / "evaluated" / "cnn" / str(seed) / "logits.npy")
        np.testing.assert_allclose(logits[-1][fold == seed], evaluated, atol=1e-5)

    asked = [*np.flatnonzero(fold == 0)[:4], *np.flatnonzero(fold == 1)[:4]]
    save_pixels(images[asked], tmp_path / "images")
    capsys.readouterr()
    assert command("predict", tmp_path / "images", "--model", "cnn", "--json") == 0
    answers = json.loads(capsys.readouterr().out)
    found = [probabilities(answer, described["classes"]) for answer in answers]
    expected = softmax(np.stack(logits)[:, asked].astype(float), axis=2).mean(axis=0)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_image_gets_the_same_answer_whatever_else_is_asked_with_it(
    project: Project, ask: Ask, tmp_path: Path
) -> None:
    images, _, _ = project.tested()
    paths = save_pixels(images[:7], tmp_path / "images")
    together = ask(tmp_path / "images")
    assert [answer["file"] for answer in together] == [str(path) for path in paths]
    assert [ask(path)[0] for path in paths] == together


# --- kinds of files -------------------------------------------------------------------------------


def photo() -> Image.Image:
    """An image without symmetry, not square."""
    row, column = np.mgrid[:40, :60]
    values = [row * 6, column * 4, (row - 10) ** 2 + (column - 20) ** 2 < 90]
    return Image.fromarray(np.stack([values[0], values[1], values[2] * 255], -1).astype(np.uint8))


def grey() -> Image.Image:
    return photo().convert("L")


def sixteen_bit() -> Image.Image:
    return Image.fromarray(np.asarray(grey()).astype(np.uint16) * 256 + 77)


def half_transparent() -> Image.Image:
    layer = grey().convert("LA")
    layer.putalpha(Image.fromarray(np.where(np.asarray(grey()) > 99, 255, 0).astype(np.uint8)))
    return layer


def over_white() -> Image.Image:
    values = np.asarray(grey())
    return Image.fromarray(np.where(values > 99, values, 255).astype(np.uint8)).convert("RGB")


# The file of a kind, what to save it with, and the plain RGB image that it shows.
KINDS: dict[str, tuple[Callable[[], Image.Image], str, Callable[[], Image.Image]]] = {
    "mode L": (grey, "png", lambda: grey().convert("RGB")),
    "mode LA": (half_transparent, "png", over_white),
    "mode P": (
        lambda: photo().quantize(16),
        "png",
        lambda: photo().quantize(16).convert("RGB"),
    ),
    "mode CMYK": (
        lambda: photo().convert("CMYK"),
        "tif",
        lambda: photo().convert("CMYK").convert("RGB"),
    ),
    "16 bit": (sixteen_bit, "png", lambda: grey().convert("RGB")),
    "large": (
        lambda: photo().resize((3000, 2000), Image.Resampling.NEAREST),
        "png",
        lambda: (
            photo()
            .resize((3000, 2000), Image.Resampling.NEAREST)
            .resize((SIZE, SIZE), Image.Resampling.BILINEAR)
        ),
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_file_of_any_kind_is_classified_as_the_image_that_it_shows(
    kind: str, ask: Ask, tmp_path: Path
) -> None:
    make, ending, shown = KINDS[kind]
    make().save(tmp_path / f"kind.{ending}")
    shown().save(tmp_path / "shown.png")
    kind_answer, shown_answer = ask(tmp_path / f"kind.{ending}", tmp_path / "shown.png")
    assert kind_answer["predictions"] == shown_answer["predictions"]


def test_jpeg_is_classified_as_its_pixels(ask: Ask, tmp_path: Path) -> None:
    photo().save(tmp_path / "photo.jpg")
    with Image.open(tmp_path / "photo.jpg") as decoded:
        decoded.save(tmp_path / "decoded.png")
    photo_answer, pixels_answer = ask(tmp_path / "photo.jpg", tmp_path / "decoded.png")
    assert photo_answer["predictions"] == pixels_answer["predictions"]


def test_turned_photo_is_classified_and_shown_upright(ask: Ask, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees
    photo().save(tmp_path / "turned.png", exif=exif)
    with Image.open(tmp_path / "turned.png") as turned:
        upright = ImageOps.exif_transpose(turned)
    upright.save(tmp_path / "upright.png", exif=Image.Exif())
    turned_answer, upright_answer = ask(tmp_path / "turned.png", tmp_path / "upright.png")
    assert turned_answer["predictions"] == upright_answer["predictions"]
    shown = read_image(tmp_path / "turned.png", SIZE, 3).shown
    np.testing.assert_array_equal(shown, np.asarray(upright.convert("RGB")))


def test_large_photo_is_shown_smaller_at_its_own_proportions(tmp_path: Path) -> None:
    photo().resize((3000, 2000)).save(tmp_path / "large.png")
    shown = read_image(tmp_path / "large.png", SIZE, 3).shown
    assert max(shown.shape) == LONGEST_SIDE
    assert shown.shape[1] / shown.shape[0] == pytest.approx(3000 / 2000, rel=0.01)


@pytest.mark.parametrize("size", [(9000, 7000), (7000, 9000), (65_000, 1000)])
def test_photo_of_more_pixels_than_are_decoded_at_once_is_shown(
    size: tuple[int, int], tmp_path: Path
) -> None:
    grey().resize(size).save(tmp_path / "large.jpg")
    shown = read_image(tmp_path / "large.jpg", SIZE, 1).shown
    height, width, _ = shown.shape
    assert max(width, height) == LONGEST_SIDE
    assert width / height == pytest.approx(size[0] / size[1], rel=0.05)
    plain = np.asarray(grey().resize((width, height)).convert("RGB"), float)
    assert np.abs(shown - plain).mean() < 4


def test_colour_photo_becomes_the_luminance_that_pillow_computes(tmp_path: Path) -> None:
    pixels = np.asarray(photo().resize((SIZE, SIZE), Image.Resampling.BILINEAR))
    photo().save(tmp_path / "photo.png")
    found = read_image(tmp_path / "photo.png", SIZE, 1).pixels
    assert found.shape == (SIZE, SIZE, 1)
    luminance = pixels @ np.array([0.299, 0.587, 0.114])  # ITU-R 601-2
    np.testing.assert_allclose(found[..., 0], luminance, atol=0.51)


# --- what is no image -----------------------------------------------------------------------------


def test_what_is_no_image_is_reported_and_the_rest_is_classified(
    project: Project, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    photo().save(folder / "a.png")
    (folder / "b.png").write_bytes(b"no image")
    photo().save(folder / "c.png")
    half = (folder / "c.png").stat().st_size // 2
    (folder / "d.png").write_bytes((folder / "c.png").read_bytes()[:half])
    (tmp_path / "empty").mkdir()
    given = (folder, tmp_path / "missing.png", tmp_path / "empty")
    capsys.readouterr()
    code = command("predict", *given, "--model", "ca_cnn", "--out", tmp_path / "out", "--json")
    assert code == 1
    printed = capsys.readouterr()
    answers = {Path(answer["file"]).name: answer for answer in json.loads(printed.out)}
    assert [name for name in answers if "predictions" in answers[name]] == ["a.png", "c.png"]
    assert answers["b.png"]["error"] == "not an image that can be read"
    assert "truncated" in answers["d.png"]["error"]
    assert "No such file" in answers["missing.png"]["error"]
    assert "without images" in answers["empty"]["error"]
    lines = printed.err.splitlines()
    assert len(lines) == 4  # a line for each
    assert f"{folder / 'b.png'}: not an image that can be read" in lines


def test_image_too_large_to_be_safe_is_refused(
    ask: Ask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photo().save(tmp_path / "photo.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    (answer,) = ask(tmp_path / "photo.png", code=1)
    assert "exceeds limit" in answer["error"]


def test_files_of_other_kinds_in_a_folder_are_reported_once(
    project: Project, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    for name in ("one.txt", "two.TXT", "movie.mkv", ".hidden.png"):
        (folder / name).write_text("text")
    photo().save(folder / "photo.PNG")
    photo().save(folder / "without_ending", format="png")
    capsys.readouterr()
    arguments = ("--model", "ca_cnn", "--out", tmp_path / "out", "--json")
    assert command("predict", folder, *arguments) == 0
    printed = capsys.readouterr()
    answers = json.loads(printed.out)
    assert [Path(answer["file"]).name for answer in answers] == ["photo.PNG", "without_ending"]
    (line,) = printed.err.splitlines()
    assert line == f"{folder}: left out what can't be read as an image: 2 .txt, 1 .mkv"


def test_figures_are_no_images_to_classify(ask: Ask, tmp_path: Path) -> None:
    photo().save(tmp_path / "photo.png")
    assert len(ask(tmp_path)) == 1  # writes into tmp_path/figures
    assert len(ask(tmp_path)) == 1
    assert command("predict", tmp_path, "--model", "ca_cnn", "--out", tmp_path) == 2


def test_links_in_a_circle_and_names_too_long_are_reported_and_the_rest_is_classified(
    ask: Ask, tmp_path: Path
) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    photo().save(folder / "photo.png")
    (folder / "circle.png").symlink_to("circle.png")
    too_long = tmp_path / f"{'x' * 300}.png"
    circle, classified, long = ask(folder, too_long, code=1)
    assert "Too many levels of symbolic links" in circle["error"]
    assert "predictions" in classified
    assert "File name too long" in long["error"]


@pytest.mark.parametrize("out", ["file", "file/below", "file/far/below", "dangling"])
def test_figures_can_not_be_written_below_a_file(
    out: str, project: Project, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("text")
    (tmp_path / "dangling").symlink_to("nowhere")
    photo().save(tmp_path / "photo.png")
    capsys.readouterr()
    assert command("predict", tmp_path / "photo.png", "--out", tmp_path / out) == 2
    message = capsys.readouterr().err
    assert f"--out: '{tmp_path / out.split('/')[0]}' is not a folder" in message
    assert message.count("\n") == 1


# --- figures --------------------------------------------------------------------------------------


def test_images_of_one_name_have_figures_of_their_own(ask: Ask, tmp_path: Path) -> None:
    for folder in ("one", "other"):
        (tmp_path / folder).mkdir()
        photo().save(tmp_path / folder / "cat.png")
    photo().save(tmp_path / "one" / "cat.jpg")
    images = [tmp_path / name for name in ("one/cat.png", "one/cat.jpg", "other/cat.png")]
    first = [answer["heatmap"] for answer in ask(*images)]
    assert len(set(first)) == 3
    contents = [Path(figure).read_bytes() for figure in first]
    again = [ask(image)[0]["heatmap"] for image in reversed(images)]
    assert again[::-1] == first  # each replaces its own, in whatever order they come
    assert [Path(figure).read_bytes() for figure in first] == contents


def test_file_that_is_no_figure_of_the_image_is_left_alone(ask: Ask, tmp_path: Path) -> None:
    photo().save(tmp_path / "photo.png")
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / "photo.png").write_bytes(b"another program's")
    (answer,) = ask(tmp_path / "photo.png")
    assert Path(answer["heatmap"]).name != "photo.png"
    assert (tmp_path / "figures" / "photo.png").read_bytes() == b"another program's"


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("Käse 3.jpg", "Käse_3"),
        ("../x/a:b*c?.png", "a_b_c_"),
        (".jpg", "jpg"),
        ("line\nend.png", "line_end"),
        ("\udcff.png", "_"),
        ("....", "image"),
    ],
)
def test_figure_has_a_name_that_every_system_takes(name: str, safe: str) -> None:
    assert safe_name(Path(name)) == safe


def test_long_name_leaves_room_for_what_is_added() -> None:
    assert len(safe_name(Path("猫" * 80 + ".png")).encode()) <= 150


def a_prediction(**changes: Any) -> Prediction:
    fields = {
        "file": Path("a[bold]b.png"),
        "classes": CLASSES[1::-1],
        "drawn": CLASSES[1::-1],
        "probabilities": (0.75, 0.125),
        "agreeing": 2,
        "members": 3,
        "figure": Path("predictions/a.png"),
    }
    return Prediction(**(fields | changes))


def test_figure_shows_the_image_the_map_as_large_and_the_probabilities() -> None:
    image = np.asarray(photo())
    top_left = np.zeros((4, 4))
    top_left[0, 0] = 0.5
    figure = draw_prediction("ca_cnn", a_prediction(), image, top_left)
    original, beside, scale, bars = figure.axes
    np.testing.assert_array_equal(original.images[0].get_array(), image)
    (heat,) = beside.images
    np.testing.assert_array_equal(heat.get_array(), 2 * top_left)
    assert heat.get_interpolation() == "nearest"
    assert heat.get_extent() == original.images[0].get_extent()
    assert heat.get_alpha() is None  # else its colours are not those of the scale
    assert scale.get_ylabel() == "share of the map's maximum"
    assert [bar.get_width() for bar in bars.patches] == [0.75, 0.125]
    figure.draw_without_rendering()  # class names with $ are no mathematics


def test_title_tells_images_of_one_name_in_two_folders_apart() -> None:
    titles = set()
    for folder in ("left", "right"):
        prediction = a_prediction(file=Path("all") / folder / "cat.png")
        figure = draw_prediction("ca_cnn", prediction, np.asarray(photo()), np.ones((4, 4)))
        titles.add(figure.get_suptitle())
    assert titles == {"ca_cnn: left/cat.png", "ca_cnn: right/cat.png"}


def test_label_of_the_scale_stands_clear_of_the_class_names() -> None:
    prediction = a_prediction(drawn=("a class with a long name", "another"))
    figure = draw_prediction("ca_cnn", prediction, np.asarray(photo()), np.ones((4, 4)))
    figure.draw_without_rendering()
    _, _, scale, bars = figure.axes
    label = scale.yaxis.label.get_window_extent()
    ticks = max(tick.get_window_extent().x1 for tick in scale.get_yticklabels())
    names = min(name.get_window_extent().x0 for name in bars.get_yticklabels())
    letter = scale.yaxis.label.get_fontsize() * figure.dpi / 72
    assert label.x0 - ticks > 0.25 * letter
    assert names - label.x1 > 0.75 * letter


def test_map_without_anything_for_the_class_is_drawn_as_zeros() -> None:
    figure = draw_prediction("ca_cnn", a_prediction(), np.asarray(photo()), np.zeros((4, 4)))
    assert not figure.axes[1].images[0].get_array().any()


def test_names_that_the_font_lacks_are_drawn_without_a_warning(tmp_path: Path) -> None:
    prediction = a_prediction(
        file=Path("猫.png"), classes=("犬", "鳥"), figure=tmp_path / "cat.png"
    )
    figure = draw_prediction("ca_cnn", prediction, np.asarray(photo()), np.ones((4, 4)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        save(figure, prediction)
    assert prediction.figure.is_file()


# --- on the terminal ------------------------------------------------------------------------------


def test_table_shows_names_as_they_are() -> None:
    printed = io.StringIO()
    Console(file=printed, width=80).print(answers_table([a_prediction()], "ca_cnn"))
    shown = ("a[bold]b.png", "[bold]square", "$disc$", "75.00%", "12.50%", "2 of 3", "a.png")
    for part in shown:
        assert part in printed.getvalue()


def test_each_row_names_the_figure_of_its_image(
    project: Project, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for folder, turned in (("left", 90), ("right", 270)):
        (tmp_path / "images" / folder).mkdir(parents=True)
        photo().rotate(turned).save(tmp_path / "images" / folder / "cat.png")
    arguments = ("--model", "ca_cnn", "--out", tmp_path / "out", "--top", "1")
    capsys.readouterr()
    assert command("predict", tmp_path / "images", *arguments) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines() if "2 of 2" in line]
    named = {row[0]: row[-1] for row in rows}
    assert list(named) == [
        str(tmp_path / "images" / each / "cat.png") for each in ("left", "right")
    ]
    assert sorted(named.values()) == sorted(path.name for path in (tmp_path / "out").iterdir())
    for image, figure in named.items():  # the same figure when the image is asked alone
        before = (tmp_path / "out" / figure).read_bytes()
        (tmp_path / "out" / figure).unlink()
        assert command("predict", image, *arguments) == 0
        assert (tmp_path / "out" / figure).read_bytes() == before


@pytest.mark.parametrize("asked", ["predict", "export"])
def test_weights_of_another_seed_are_refused(
    asked: str, project: Project, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photo().save(tmp_path / "cat.png")
    first, second = (
        Path("data", "trained", project.model, str(seed), "model.safetensors")
        for seed in project.seeds
    )
    before = first.read_bytes()
    first.write_bytes(second.read_bytes())
    try:
        more = {"predict": (tmp_path / "cat.png",), "export": ("--format", "pt2")}[asked]
        out = tmp_path / "out.pt2"
        assert command(asked, *more, "--model", project.model, "--out", out) == 2
    finally:
        first.write_bytes(before)
    assert f"{first}: is of seed 1, not of 0; run the training again" in capsys.readouterr().err
    assert not out.exists()


def test_names_in_the_table_are_never_broken(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    path = f"/a/folder/{'deep/' * 30}photo of a cat.png"
    name = f"a class with {'many ' * 20}words"
    print_answers([a_prediction(file=Path(path), classes=(name, "other"))], "ca_cnn")
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "75.00%" in line]
    assert line.startswith(f"{path} {name} ")
    assert line.rstrip().endswith("2 of 3 a.png")


@pytest.mark.parametrize(
    "name", ["no\u00a0break.png", "back\\slash.png", "two\nlines.png", "猫.png"]
)
def test_json_holds_names_with_which_the_files_can_be_opened(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text("here")
    prediction = a_prediction(file=tmp_path / name, figure=tmp_path / name)
    (answer,) = json.loads(answers_json([prediction]))
    assert Path(answer["file"]).read_text() == Path(answer["heatmap"]).read_text() == "here"
    (failed,) = json.loads(answers_json([Failure(tmp_path / name, "reason")]))
    assert failed["file"] == str(tmp_path / name)


def test_json_escapes_a_name_that_is_no_text() -> None:
    printed = answers_json([Failure(Path(os.fsdecode(b"\xff.png")), "reason")])
    assert json.loads(printed)[0]["file"] == "\\xff.png"


def test_json_says_what_could_not_be_read() -> None:
    failure = Failure(Path("b\n.png"), "not an image that can be read")
    assert json.loads(answers_json([failure, a_prediction()])) == [
        {"file": "b\n.png", "error": "not an image that can be read"},
        {
            "file": "a[bold]b.png",
            "predictions": [
                {"class": "[bold]square", "probability": 0.75},
                {"class": "$disc$", "probability": 0.125},
            ],
            "agreement": {"agreeing": 2, "seeds": 3},
            "heatmap": "predictions/a.png",
        },
    ]


def test_top_limits_the_classes_printed(
    project: Project, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photo().save(tmp_path / "photo.png")
    arguments = ("--model", "ca_cnn", "--out", tmp_path / "out", "--top", "1")
    capsys.readouterr()
    assert command("predict", tmp_path / "photo.png", *arguments) == 0
    printed = capsys.readouterr().out
    assert sum(name in printed for name in CLASSES) == 1
    assert "even if it shows none of them" in printed


def test_the_candidate_is_asked_where_no_model_is_named(
    project: Project, ask: Ask, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photo().save(tmp_path / "photo.png")
    by_name = ask(tmp_path / "photo.png")
    assert read(Path("params.yaml"))["model"] == project.model
    arguments = ("--out", tmp_path / "figures", "--json")
    assert command("predict", tmp_path / "photo.png", *arguments) == 0
    assert json.loads(capsys.readouterr().out) == by_name


def test_untrained_seed_is_refused_with_what_to_run(
    project: Project, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photo().save(tmp_path / "photo.png")
    capsys.readouterr()
    assert command("predict", tmp_path / "photo.png", "--model", "cnn") == 2
    message = capsys.readouterr().err
    assert "python -m pipeline train --model cnn --seed 0" in message
    assert message.count("\n") == 1
