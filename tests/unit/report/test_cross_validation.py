"""The report of a cross-validation."""

from __future__ import annotations

import re
import shutil

import numpy as np
import pandas as pd
import pytest
from scipy.special import softmax
from sklearn.metrics import accuracy_score, f1_score, log_loss

from pipeline.settings import load
from pipeline.system.errors import InputError
from tests.unit.report.made_project import (
    CLASSES,
    MODELS,
    Project,
    beside_the_answer,
    caveats,
    cross_validated,
    data_section,
    ensemble_probabilities,
    first_paragraph,
    table_under,
    tables,
)


def test_cross_validated_accuracy_is_that_of_all_images(folds: Project):
    text = folds.report(cross_validated())
    table = pd.read_csv(folds.reports / "comparison.csv").set_index("model")
    truth = np.concatenate(folds.labels)
    answers = {
        model: np.concatenate([folds.logits[model, fold].argmax(axis=1) for fold in (0, 1)])
        for model in MODELS
    }
    for model in MODELS:
        row = table.loc[model]
        assert row["accuracy"] == pytest.approx(100 * accuracy_score(truth, answers[model]))
        by_fold = [folds.accuracy(model, fold) for fold in (0, 1)]
        assert row["accuracy_sd"] == pytest.approx(np.std(by_fold, ddof=1), abs=1e-4)
        logits = np.concatenate([folds.logits[model, fold] for fold in (0, 1)]).astype(float)
        assert row["nll"] == pytest.approx(log_loss(truth, softmax(logits, axis=1)), rel=1e-4)
    assert table.loc["ca_cnn", "difference"] == pytest.approx(
        table.loc["ca_cnn", "accuracy"] - table.loc["cnn", "accuracy"], abs=1e-3
    )

    per_class = table_under(text, "Classes")
    assert [int(row[1]) for row in per_class[1:]] == np.bincount(truth).tolist()
    scores = 100 * f1_score(truth, answers["cnn"], average=None)
    assert [float(row[2]) for row in per_class[1:]] == pytest.approx(scores.tolist(), abs=0.051)
    predictions = pd.read_csv(folds.reports / "plots" / "confusion.csv")
    names = np.array(CLASSES)
    assert predictions["actual"].tolist() == names[truth].tolist()
    assert predictions["predicted"].tolist() == names[answers["ca_cnn"]].tolist()


def test_report_of_a_cross_validation_speaks_of_folds(folds: Project):
    text = folds.report(cross_validated())
    assert "with 2-fold cross-validation" in first_paragraph(text)
    visible = text.partition("<summary>params.yaml")[0]
    assert set(re.findall(r"[^.\n]*\bseeds?\b[^.\n]*", visible)) == {
        "There are no ensembles over seeds: in cross-validation the runs of an architecture are "
        "tested on different images",
        " Where the images suffice for a test split, several seeds on one (`split",
        "- **Next step:** several seeds on one division (`split",
    }
    assert [line for line in caveats(text) if "Bengio and Grandvalet" in line]
    said = "Each image is tested once: one of 80 images is 1.2 points of"
    assert [line for line in caveats(text) if said in line]
    *_, counts, origin = tables(text)
    (ensembles,) = (rows for rows in tables(text) if "gain over its members" in rows[0])
    assert [row[0] for row in ensembles[1:]] == ["4 architectures"]
    assert counts[0] == ["class", "fold 0", "fold 1"]
    assert counts[-1] == ["all", "48", "32"]
    assert ["folds", "0, 1"] in origin
    assert "of each run's own training split" in text


def test_ensemble_of_architectures_is_made_on_each_fold(folds: Project):
    folds.report(cross_validated())
    table = pd.read_csv(folds.reports / "comparison.csv").set_index("model")
    answers = [
        ensemble_probabilities(folds, [(model, fold) for model in MODELS]).argmax(axis=1)
        for fold in (0, 1)
    ]
    expected = accuracy_score(np.concatenate(folds.labels), np.concatenate(answers))
    assert table.loc["ensemble: 4 architectures", "accuracy"] == pytest.approx(100 * expected)


def test_a_run_evaluated_on_another_fold_is_refused(folds: Project):
    evaluated = folds.root / "data" / "evaluated" / "cnn"
    shutil.copytree(evaluated / "0", evaluated / "1", dirs_exist_ok=True)
    with pytest.raises(InputError, match=r"cnn/1/logits.npy: .* each of 32 .* \(48, 4\)"):
        folds.report(cross_validated())


def test_candidate_without_a_baseline_is_cross_validated(folds: Project):
    content = cross_validated().model_dump() | {"model": "cnn"}
    sentence = first_paragraph(folds.report(load.check(content)))
    assert "of the 80 test images of digits correctly**, in 2-fold cross-validation." in sentence


def test_copies_in_another_fold_are_reported(folds: Project):
    found = {"groups": 2, "images": 4, "across_splits": 1, "across_classes": 0, "test_images": 2}
    folds.describe(duplicates=found)
    text = folds.report(cross_validated())
    assert "in more than one fold: 1" in data_section(text)
    assert "**2 of 80 test images also occur in another fold**" in beside_the_answer(text)[0]
