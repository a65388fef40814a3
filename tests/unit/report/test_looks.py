"""The section on heatmaps and attention."""

from __future__ import annotations

import math
import shutil

import pandas as pd
import pytest

from pipeline.report.filters import environment
from pipeline.report.view import Faithfulness, Interval, Outcome
from tests.unit.report.made_project import Project, first_paragraph, section, settings, tables


def test_a_missing_explanation_is_left_out(project: Project):
    shutil.rmtree(project.reports / "figures" / "ca_cnn")
    text = project.report(settings())
    assert "figures/ca_cnn" not in text
    assert "figures/se_densenet/attention.png" in text
    shutil.rmtree(project.reports / "figures")
    text = project.report(settings())
    assert "## What it looks at" not in text
    assert "attention.png" not in text
    assert (project.reports / "figures" / "comparison" / "mistakes.png").is_file()


def test_heatmaps_are_held_against_chance_and_the_centre(reported: tuple[Project, str]):
    _, text = reported
    found = section(text, "## What it looks at")
    assert (
        "- `cnn`: Grad-CAM is better than the random map and better than the centred map by "
        "deletion only; LayerCAM is not distinguishable from the random map and worse than the "
        "centred map."
    ) in found
    assert "Measured on 9 test images" in found
    cells = {row[0]: row[3:] for row in tables(found)[0]}
    assert cells["cnn: Grad-CAM"] == ["better", "better / even"]
    assert cells["cnn: LayerCAM"] == ["even", "worse"]
    assert cells["cnn: the centred map"] == ["-", "-"]


def test_heatmap_that_survives_random_weights_is_named(reported: tuple[Project, str]):
    _, text = reported
    assert (
        "- `cnn`: Grad-CAM changes (0.10, 0.05 to 0.15), LayerCAM stays much the same (0.90, 0.85 "
        "to 0.95)."
    ) in section(text, "## What it looks at")


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
        "Of its 6 attention modules, all seeds together, 4 hardly vary with the image, and 2 scale "
        "everything by one number."
    ) in first_paragraph(text).replace("\n", " ")


def test_report_leaves_the_explanations_alone(project: Project):
    before = sorted(path for path in project.reports.rglob("*") if path.is_file())
    project.report(settings())
    after = {path for path in project.reports.rglob("*") if path.is_file()}
    assert set(before) < after
    assert not [path for path in after if "incomplete" in str(path)]


@pytest.mark.parametrize(
    ("outcomes", "words"),
    [
        (("even", "even"), "not distinguishable from the random map"),
        (("worse", "worse"), "worse than the random map"),
        (("worse", "even"), "worse than the random map by deletion only"),
        (("even", "better"), "better than the random map by insertion only"),
        (("worse", "better"), "worse by deletion but better by insertion than the random map"),
    ],
)
def test_both_curves_of_a_heatmap_are_heard(outcomes: tuple[Outcome, Outcome], words: str):
    areas = Interval(0.5, 0.4, 0.6)
    heatmap = Faithfulness(areas, areas, {"random": outcomes})
    assert vars(environment().get_template("findings.j2").module)["against"](heatmap, "random") == (
        words
    )


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ((math.nan, math.nan, math.nan, 0), "has no pattern left to compare"),
        ((0.9, math.nan, math.nan, 1), "may or may not change (0.90, of a single image)"),
        ((0.7, 0.6, 0.8, 9), "may or may not change (0.70, 0.60 to 0.80)"),
        ((0.1, 0, 0.2, 4), "changes (0.10, 0.00 to 0.20, 4 of 9 images have a pattern)"),
        ((0.9, 0.8, 1, 9), "stays much the same (0.90, 0.80 to 1.00)"),
    ],
)
def test_heatmap_of_random_weights_changes_if_its_interval_says_so(
    project: Project, row: tuple[float, float, float, int], words: str
):
    path = project.reports / "figures" / "cnn" / "randomisation.csv"
    table = pd.read_csv(path)
    rows = (table["heatmap"] == "grad_cam") & (table["randomised"] == "all layers")
    table.loc[rows, ["rank_correlation", "low", "high", "images"]] = row
    table.astype({"images": int}).to_csv(path, index=False)
    assert f"- `cnn`: Grad-CAM {words}, LayerCAM" in project.report(settings())
