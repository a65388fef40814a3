"""The files that the report stage writes."""

from __future__ import annotations

import json
import re
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.metrics import confusion_matrix, recall_score

from tests.unit.report.made_project import CLASSES, Project, into_splits, settings


def test_every_link_leads_to_a_file(reported: tuple[Project, str]):
    project, text = reported
    links = [link for link in re.findall(r"\]\(([^)\s]+)", text) if "://" not in link]
    assert len(links) >= 10 + 4 * 5 + 2 * 4 + 5
    for link in links:
        assert (project.reports / unquote(link)).is_file(), link
    for path in (project.reports / "figures" / "comparison").iterdir():
        if path.suffix == ".svg":
            assert "<dc:" not in path.read_text()
            continue
        with Image.open(path) as image:
            assert (image.format, "Software" in image.info) == ("PNG", False)


def test_plots_and_metrics_for_dvc(reported: tuple[Project, str]):
    project, _ = reported
    predictions = pd.read_csv(project.reports / "plots" / "confusion.csv")
    assert list(predictions) == ["actual", "predicted"]
    both = np.concatenate([project.logits["ca_cnn", seed].argmax(axis=1) for seed in (0, 1)])
    expected = confusion_matrix(np.tile(project.labels[0], 2), both)
    found = confusion_matrix(predictions["actual"], predictions["predicted"], labels=CLASSES)
    assert found.tolist() == expected.tolist()

    curves = pd.read_csv(project.reports / "plots" / "learning_curves.csv")
    assert list(curves) == ["epoch", "candidate", "baseline"]
    trained = project.root / "data" / "trained" / "cnn"
    runs = [pd.read_csv(trained / seed / "history.csv") for seed in ("0", "1")]
    means = (runs[0]["validation_accuracy"] + runs[1]["validation_accuracy"]) / 2
    assert curves["baseline"].tolist() == pytest.approx(means.tolist(), abs=1e-5)

    missed = pd.read_csv(project.reports / "plots" / "mistakes.csv").set_index("class")["missed"]
    recalls = [
        recall_score(project.labels[0], project.logits["ca_cnn", seed].argmax(axis=1), average=None)
        for seed in (0, 1)
    ]
    assert missed[CLASSES].tolist() == pytest.approx(100 - 100 * np.mean(recalls, axis=0))
    reliability = pd.read_csv(project.reports / "plots" / "reliability.csv")
    assert list(reliability) == ["confidence", "accuracy", "perfect"]
    assert reliability.notna().all(axis=None)
    assert reliability["confidence"].is_monotonic_increasing

    metrics = json.loads((project.reports / "metrics.json").read_text())
    texts = {name for name, value in metrics.items() if not isinstance(value, int | float)}
    assert texts == {"judged_by", "verdict", "reason", "looks_at_image"}
    assert metrics["parameters"] == 1020
    assert metrics["difference_low"] <= metrics["difference"] <= metrics["difference_high"]


def test_the_same_results_give_the_same_bytes(reported: tuple[Project, str], tmp_path: Path):
    project, _ = reported
    again = Project(tmp_path, into_splits)
    again.report(settings())

    def outputs(folder: Path) -> dict[Path, bytes]:
        found = [path for path in folder.rglob("*") if path.is_file()]
        here = bytes(folder.parent)  # verdict.json names what was read, here by its whole path
        return {path.relative_to(folder): path.read_bytes().replace(here, b".") for path in found}

    assert outputs(again.reports) == outputs(project.reports)
