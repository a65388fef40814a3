"""What the explain stage wrote, read back: complete, or refused in one line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pipeline.comparison.runs import Explanation, read_explanations
from pipeline.report.view import explained as view_explanation
from pipeline.settings import presets
from pipeline.storage import records
from pipeline.system.errors import InputError
from tests.unit.made_records import (
    AREAS,
    DIFFERENCES,
    EMPTY_IMAGES,
    WEIGHTS,
    made_explanation,
    write_figure,
)

IMAGES = 6
SETTINGS = presets.load("digits")
MODULES = ("block1.attention", "block2.attention")
CAMS = ("grad_cam", "layer_cam")
# Of the last nothing is left to compare, which is no defect.
RANDOMISATION = [
    "heatmap,randomised,rank_correlation,low,high,least,greatest,networks,images,maps",
    f"grad_cam,last layer,0.9,0.8,1,0.7,1,4,{IMAGES},{4 * IMAGES}",
    f"layer_cam,last layer,0.9,0.8,1,0.7,1,4,{IMAGES},{4 * IMAGES}",
    f"grad_cam,all layers,0.1,0.05,0.2,-0.1,0.3,4,{IMAGES},{4 * IMAGES}",
    f"layer_cam,all layers,,,,,,4,{IMAGES},0",
]
# The share has no value where nothing varies.
VARIATION = [
    "module,kind,weights,mean,sd_between,sd_over_images,share_by_class,share_by_chance,constant",
    f"{MODULES[0]},channel,8,0.5,0.1,0,,0.1,True",
    f"{MODULES[1]},channel,8,0.5,0.1,0.1,0.25,0.1,False",
]


def lines(*content: str) -> str:
    return "".join(f"{line}\n" for line in content)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The complete folder of one architecture."""
    made = tmp_path / "ca_cnn"
    made.mkdir()
    weights = tmp_path / "trained" / "ca_cnn" / "0" / "model.safetensors"
    weights.parent.mkdir(parents=True)
    weights.write_bytes(WEIGHTS)
    drawings = ("faithfulness", "faithfulness_curves", "randomisation", "attention")
    for name in (*drawings, "attention_variation"):
        write_figure(made / f"{name}.svg")
    for name in ("feature_maps", "heatmaps", "cams"):
        write_figure(made / f"{name}.png")
    np.save(made / "grad_cam.npy", np.zeros((IMAGES, 2, 2), np.float16))
    DIFFERENCES.to_csv(made / "faithfulness.csv", index=False)
    AREAS.to_csv(made / "faithfulness_areas.csv", index=False)
    EMPTY_IMAGES.to_csv(made / "empty_images.csv", index=False)
    (made / "randomisation.csv").write_text(lines(*RANDOMISATION))
    (made / "attention_variation.csv").write_text(lines(*VARIATION))
    (made / "attention.csv").write_text("module\n")
    record = made_explanation(["last layer", "all layers"], attention=MODULES)
    records.write(made / "explain.json", record)
    return made


def explained(folder: Path) -> dict[str, Explanation]:
    return read_explanations(folder.parent, folder.parent / "trained", SETTINGS, IMAGES)


def test_complete_explanation_is_read(folder: Path) -> None:
    found = explained(folder)["ca_cnn"]
    assert len(found.faithfulness) == 36
    assert len(found.areas) == 20
    assert found.empty_images["image"].tolist() == ["complete", "mean", "blur"]
    assert found.randomisation["rank_correlation"].isna().sum() == 1
    assert found.variation is not None
    assert found.variation["constant"].tolist() == [True, False]
    assert found.variation["constant"].dtype == bool
    seen = view_explanation(found, "ca_cnn", compared=True)
    assert [seen.randomised[kind].change for kind in CAMS] == ["changes", "no pattern"]
    assert seen.attention is not None
    assert (seen.attention.modules, seen.attention.constant) == (2, MODULES[:1])


def test_what_was_not_explained_is_left_out(tmp_path: Path) -> None:
    assert read_explanations(tmp_path, tmp_path / "trained", SETTINGS, IMAGES) == {}


def without(*dropped: str) -> Callable[[str], str]:
    """Take away the lines that begin so."""

    def cut(text: str) -> str:
        kept = [line for line in text.splitlines() if not line.startswith(dropped)]
        assert len(kept) < len(text.splitlines())
        return lines(*kept)

    return cut


def first_lines(count: int) -> Callable[[str], str]:
    return lambda text: lines(*text.splitlines()[:count])


def first_characters(count: int) -> Callable[[str], str]:
    return lambda text: text[:count]


def other(old: str, new: str) -> Callable[[str], str]:
    def replaced(text: str) -> str:
        assert old in text
        return text.replace(old, new, 1)

    return replaced


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("faithfulness.csv", first_lines(1)),
        ("faithfulness.csv", first_lines(3)),
        ("faithfulness.csv", first_characters(-1)),
        ("faithfulness.csv", first_characters(-2)),
        ("faithfulness.csv", first_characters(-4)),
        ("faithfulness.csv", without("blur,deletion,grad_cam,layer_cam")),
        ("faithfulness.csv", other("0.01,", ",")),
        ("faithfulness.csv", other("0.01,", "a hundredth,")),
        ("faithfulness_areas.csv", first_lines(3)),
        ("faithfulness_areas.csv", without("mean,insertion,random")),
        ("faithfulness_areas.csv", other("0.3,", ",")),
        ("empty_images.csv", without("blur")),
        ("empty_images.csv", other("0.25", "")),
        ("randomisation.csv", first_lines(1)),
        ("randomisation.csv", first_lines(3)),
        ("randomisation.csv", first_characters(-4)),
        ("randomisation.csv", without("layer_cam")),
        ("randomisation.csv", without("layer_cam,all")),
        ("attention_variation.csv", first_lines(1)),
        ("attention_variation.csv", first_lines(2)),
        ("attention_variation.csv", first_characters(-4)),
        ("attention_variation.csv", first_characters(-12)),
        ("attention_variation.csv", other("True", "")),
        ("attention_variation.csv", other("True", "Tr")),
        ("attention_variation.csv", other("channel,8", "channel,8,9,9")),
        ("grad_cam.npy", lambda text: ""),
        ("explain.json", lambda text: "{"),
    ],
)
def test_corrupt_file_is_refused_in_one_line(
    folder: Path, name: str, damage: Callable[[str], str]
) -> None:
    path = folder / name
    path.write_text(damage(path.read_text(encoding="latin-1")))
    with pytest.raises(InputError) as error:
        explained(folder)
    message = str(error.value)
    assert message.startswith(f"{path}: can't be read (")
    assert "python -m pipeline explain --model ca_cnn" in message
    assert "\n" not in message


def test_a_table_that_is_cut_anywhere_is_refused(folder: Path) -> None:
    names = ["faithfulness.csv", "faithfulness_areas.csv", "empty_images.csv", "randomisation.csv"]
    for name in [*names, "attention_variation.csv"]:
        complete = (folder / name).read_text()
        size = len(complete)
        for length in sorted({*range(0, size, 11), *range(max(size - 100, 0), size)}):
            (folder / name).write_text(complete[:length])
            with pytest.raises(InputError, match=rf"{name}: can't be read"):
                explained(folder)
        (folder / name).write_text(complete)
    assert explained(folder)


def test_missing_file_is_named_with_what_to_run(folder: Path) -> None:
    (folder / "cams.png").unlink()
    message = r"cams\.png: no such file; explain ca_cnn first \(python -m pipeline explain"
    with pytest.raises(InputError, match=message):
        explained(folder)


def test_file_in_the_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "cnn").write_text("text")
    with pytest.raises(InputError, match=r"cnn: is not a folder; .*explain --model cnn"):
        read_explanations(tmp_path, tmp_path / "trained", SETTINGS, IMAGES)


@pytest.mark.parametrize(
    "maps", [np.full((IMAGES, 4, 4), np.nan, np.float16), np.zeros((IMAGES, 4, 4), "S2")]
)
def test_maps_that_are_no_finite_numbers_are_refused(folder: Path, maps: np.ndarray) -> None:
    np.save(folder / "grad_cam.npy", maps)
    with pytest.raises(InputError, match=r"grad_cam\.npy: holds what is no finite number; explain"):
        explained(folder)
