"""The section on where a candidate helps and hurts."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd

from pipeline.report.filters import environment
from pipeline.system import formats
from tests.unit.made_runs import compared, viewed
from tests.unit.report.made_project import CLASSES, Project, section, table_under, tables


def test_class_names_are_shown_as_they_are(reported: tuple[Project, str]):
    project, text = reported
    per_class, counts = table_under(text, "Classes"), table_under(text, "Data")
    assert [row[0] for row in per_class[1:]] == CLASSES
    assert [row[0] for row in counts[1:]] == [*CLASSES, "all"]
    assert counts[1][1:] == [str(project.counts[s]["cat"]) for s in project.counts]


def test_images_gained_and_lost_are_those_that_one_network_got_right(
    reported: tuple[Project, str],
):
    project, text = reported
    right = {
        (model, seed): project.logits[model, seed].argmax(axis=1) == project.labels[seed]
        for model in ("ca_cnn", "cnn")
        for seed in (0, 1)
    }
    gained = [int((right["ca_cnn", s] & ~right["cnn", s]).sum()) for s in (0, 1)]
    lost = [int((right["cnn", s] & ~right["ca_cnn", s]).sum()) for s in (0, 1)]
    found = section(text, "## Where it helps and hurts")
    assert f"Of 40 test images, `ca_cnn` gets {np.mean(gained):.1f} right that `cnn`" in found
    assert f"and {np.mean(lost):.1f} wrong that `cnn` gets right (means over 2 seeds)" in found
    rows = tables(section(text, "## How sure"))[1]
    assert rows[0] == ["pair", "seed", "gain in points", "gained", "lost"]
    for seed in (0, 1):
        (found,) = [row for row in rows if row[:2] == ["ca_cnn - cnn", str(seed)]]
        gain = 100 * (gained[seed] - lost[seed]) / 40
        assert found[2:] == [formats.points(gain), str(gained[seed]), str(lost[seed])]


def test_classes_whose_interval_excludes_0_are_counted(reported: tuple[Project, str]):
    project, text = reported
    table = pd.read_csv(project.reports / "tables" / "class_differences.csv")
    found = section(text, "## Where it helps and hurts")
    excluding = {
        model: int(((rows["difference_low"] > 0) | (rows["difference_high"] < 0)).sum())
        for model, rows in table.groupby("model")
    }
    for number in excluding.values():
        assert f"of each class for itself, excludes 0 for {number} of 4 classes." in found
    assert len(table) == 2 * 4


def test_table_of_many_classes_is_folded():
    names = [f"class {k}" for k in range(21)]
    found = viewed(compared(classes=names, images=63), "ca_cnn")
    figures = {"confusion_matrices": "figures/confusion.png"}
    text = environment().get_template("classes.md.j2").render(view=replace(found, figures=figures))
    folded = text.partition("<summary>F1 by class</summary>")[2].partition("</details>")[0]
    assert len(tables(folded)[0]) == 1 + 21
