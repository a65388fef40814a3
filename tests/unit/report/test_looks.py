"""The section on heatmaps and attention."""

from __future__ import annotations

import math
import shutil

import pandas as pd
import pytest

from tests.unit.report.made_project import Project, section, settings, tables


def test_a_missing_explanation_is_left_out(project: Project):
    shutil.rmtree(project.reports / "figures" / "ca_cnn")
    text = project.report(settings())
    assert "figures/ca_cnn" not in text
    assert "figures/se_densenet/attention.svg" in text
    shutil.rmtree(project.reports / "figures")
    text = project.report(settings())
    assert "## What it looks at" not in text
    assert "attention.svg" not in text
    assert (project.reports / "figures" / "comparison" / "mistakes.png").is_file()


def test_heatmaps_are_held_against_controls_and_each_other(reported: tuple[Project, str]):
    _, text = reported
    found = section(text, "## What it looks at")
    assert (
        "- `cnn`: Grad-CAM is better than the random map by all 4 measures, and better than the "
        "centred map by deletion (mean, blur), not measurably different by insertion (mean, blur); "
        "LayerCAM is not measurably different from the random map, and worse than the centred map "
        "by deletion (mean, blur) and insertion (mean), not measurably different by insertion "
        "(blur); Grad-CAM is better than LayerCAM by insertion (blur), worse by deletion (mean), "
        "not measurably different by deletion (blur) and insertion (mean)."
    ) in found
    assert "corrected for all 36 comparisons of a model" in found
    assert "Measured on 9 test images" in found
    kept, *differences = tables(found)[:3]
    assert kept[0] == ["model", "complete image", "empty: mean", "empty: blur"]
    row = ["0.90 (0.80 to 1.00)", "0.25 (0.20 to 0.30)", "0.50 (0.40 to 0.60)"]
    assert ["cnn", *row] in kept
    assert "of 4 classes each has 0.25 by chance" in found
    cells = {row[0]: row[1:] for row in differences[0]}
    better, even = "+0.200 (+0.150 to +0.250)<br>better", "+0.000 (-0.050 to +0.050)"
    assert cells["Grad-CAM against the centred map"] == [better, better, even, even]


def test_heatmaps_of_different_models_are_not_compared(reported: tuple[Project, str]):
    project, text = reported
    found = section(text, "## What it looks at")
    for model in ("cnn", "ca_cnn", "densenet", "se_densenet"):
        assert f"figures/{model}/faithfulness.svg" in found
    assert not (project.reports / "figures" / "comparison" / "faithfulness.svg").exists()


def test_heatmap_that_survives_random_weights_is_named(reported: tuple[Project, str]):
    _, text = reported
    found = section(text, "## What it looks at")
    assert (
        "- `cnn`: Grad-CAM changes (0.10, 0.05 to 0.15; single random models -0.10 to 0.30); "
        "LayerCAM stays much the same (0.90, 0.85 to 0.95; single random models 0.80 to 0.97)."
    ) in found
    assert "those of 4 random models" in found
    assert "if the interval lies below 0.71" in found


def test_attention_that_never_varies_is_called_a_scale_factor(reported: tuple[Project, str]):
    _, text = reported
    found = section(text, "### What attention does")
    assert (
        "`ca_cnn` (seed 0): the weights of 2 of 3 attention modules vary with the image; "
        "`block1.attention` hardly varies with the image: it is a fixed scale factor; it gives all "
        "channels or positions the same weight and multiplies everything by 0.50; the class "
        "explains 25 to 75 % of the variation (3 % by chance)."
    ) in found
    assert "`cnn` (seed 0)" not in found
    assert (
        "Of its 6 attention modules, all seeds together, 4 hardly vary with the image, and 2 of "
        "these scale everything by one number."
    ) in found


def test_report_leaves_the_explanations_alone(project: Project):
    before = sorted(path for path in project.reports.rglob("*") if path.is_file())
    project.report(settings())
    after = {path for path in project.reports.rglob("*") if path.is_file()}
    assert set(before) < after
    assert not [path for path in after if "incomplete" in str(path)]


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ((math.nan, math.nan, math.nan, 0), "has no pattern left to compare"),
        ((0.9, math.nan, math.nan, 4), "may or may not change (0.90, of too few for an interval)"),
        ((0.7, 0.6, 0.8, 36), "may or may not change (0.70, 0.60 to 0.80; single"),
        ((0.1, 0, 0.2, 20), "changes (0.10, 0.00 to 0.20; single"),
        ((0.9, 0.8, 1, 36), "stays much the same (0.90, 0.80 to 1.00; single"),
    ],
)
def test_heatmap_of_random_weights_changes_if_its_interval_says_so(
    project: Project, row: tuple[float, float, float, int], words: str
):
    path = project.reports / "figures" / "cnn" / "randomisation.csv"
    table = pd.read_csv(path)
    rows = (table["heatmap"] == "grad_cam") & (table["randomised"] == "all layers")
    table.loc[rows, ["rank_correlation", "low", "high", "maps"]] = row
    table.astype({"maps": int}).to_csv(path, index=False)
    text = project.report(settings())
    assert f"- `cnn`: Grad-CAM {words}" in text
    assert ("20 of 36 maps have a pattern" in text) == (row[-1] == 20)


def test_heatmaps_tested_on_a_single_image_are_not_said_to_differ(project: Project):
    folder = project.reports / "figures" / "cnn"
    for name in ("faithfulness", "faithfulness_areas", "empty_images"):
        table = pd.read_csv(folder / f"{name}.csv")
        unknown = [column for column in ("low", "high", "p", "p_holm") if column in table]
        table[unknown] = math.nan
        table.to_csv(folder / f"{name}.csv", index=False)
    text = project.report(settings())
    assert "- `cnn`: Grad-CAM is not measurably different from the random map, and not" in text
    assert "| `cnn` | 0.90 | 0.25 | 0.50 |" in text
