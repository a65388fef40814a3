"""The section on heatmaps and attention."""

from __future__ import annotations

import shutil

from tests.unit.report.made_project import Project, section, settings, tables


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
    told = section(text, "## What it looks at")
    assert (
        "- `cnn`: Grad-CAM is better than chance and better than the centre by deletion alone; "
        "LayerCAM is not told apart from chance and worse than the centre."
    ) in told
    assert "Measured on 9 test images" in told
    cells = {row[0]: row[3:] for row in tables(told)[0]}
    assert cells["cnn: Grad-CAM"] == ["better", "better / even"]
    assert cells["cnn: LayerCAM"] == ["even", "worse"]
    assert cells["cnn: the centre"] == ["-", "-"]


def test_heatmap_that_survives_random_weights_is_told(reported: tuple[Project, str]):
    _, text = reported
    assert (
        "- `cnn`: Grad-CAM changes (0.10, 0.05 to 0.15), LayerCAM stays much the same (0.90, 0.85 "
        "to 0.95)."
    ) in section(text, "## What it looks at")


def test_attention_that_never_varies_is_called_a_scale_factor(reported: tuple[Project, str]):
    _, text = reported
    told = section(text, "### What attention does")
    assert (
        "`ca_cnn` (seed 0): the weights of 2 of 3 attention modules vary with the image; "
        "`block1.attention` hardly differs from image to image and is a scale factor; "
        "`block1.attention` does not even tell channels or places apart, but multiplies everything "
        "by 0.50; the class explains 25 to 75 % of the variation (3 % would be chance)."
    ) in told
    assert "`cnn` (seed 0)" not in told
    assert "1 of 3 attention modules of `ca_cnn` (seed 0) do nothing" in section(text, "### Doubts")


def test_report_leaves_the_explanations_alone(project: Project):
    before = sorted(path for path in project.reports.rglob("*") if path.is_file())
    project.report(settings())
    after = {path for path in project.reports.rglob("*") if path.is_file()}
    assert set(before) < after
    assert not [path for path in after if "incomplete" in str(path)]
