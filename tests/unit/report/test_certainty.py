"""The section on how sure all this is."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from scipy.special import softmax

from pipeline.settings import load
from tests.unit.report.made_project import (
    CLASSES,
    Project,
    caveats,
    section,
    settings,
    stop_early,
    table_under,
    written,
)


def test_rule_of_the_verdict_has_the_levels_of_the_settings(project: Project):
    content = settings().model_dump()
    content["report"] |= {"confidence": 0.9, "margin": 1.5}
    told = section(project.report(load.check(content)), "## How sure")
    assert "corrected for all pairs, is below 0.1." in told
    assert "lies below +1.5 points" in told
    assert "a gain that large is below 0.05:" in told


def test_what_the_experiment_could_have_shown_is_told(reported: tuple[Project, str]):
    project, text = reported
    table = pd.read_csv(project.reports / "comparison.csv").set_index("model")
    smallest = table.loc["ca_cnn", "smallest_detectable"]
    assert (
        f"with 2 seeds and 40 test images, a true difference has to be {smallest:.2f} points"
    ) in section(text, "## How sure")


def test_calibration_stands_in_the_report(reported: tuple[Project, str]):
    project, text = reported
    probabilities = softmax(
        np.concatenate([project.logits["cnn", seed] for seed in (0, 1)]).astype(float), axis=1
    )
    truth = np.eye(len(CLASSES))[np.concatenate([project.labels[seed] for seed in (0, 1)])]
    brier = ((probabilities - truth) ** 2).sum(axis=1).mean()
    (row,) = [row for row in table_under(text, "Calibration") if row[0] == "cnn"]
    assert float(row[2]) == pytest.approx(brier, abs=5.1e-5)


def test_training_that_was_still_improving_is_named(
    project: Project, reported: tuple[Project, str]
):
    assert not any("last epoch" in line for line in caveats(reported[1]))
    for seed in (0, 1):
        path = project.root / "data" / "trained" / "ca_cnn" / str(seed) / "train.json"
        written(path, json.loads(path.read_text()) | {"best_epoch": 5})
    (told,) = [line for line in caveats(project.report(settings())) if "last epoch" in line]
    assert "`ca_cnn`" in told


def test_early_stopping_at_the_best_epoch_points_to_its_patience(project: Project):
    for seed in (0, 1):
        stop_early(project, "ca_cnn", seed, 3)
        path = project.root / "data" / "trained" / "ca_cnn" / str(seed) / "train.json"
        written(path, json.loads(path.read_text()) | {"best_epoch": 3})
    (told,) = [line for line in caveats(project.report(settings())) if "last epoch" in line]
    assert "`ca_cnn`: a larger `train.early_stopping` may change" in told
