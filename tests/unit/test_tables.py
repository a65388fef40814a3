from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from scipy.special import softmax
from sklearn.metrics import recall_score

from pipeline.comparison.design import CROSS_VALIDATED
from pipeline.report import tables
from tests.unit.made_runs import CLASSES, compared


@pytest.fixture(scope="module")
def comparison():
    return compared()


def test_comparison_table_says_how_sure_each_pair_is(comparison):
    table = tables.comparison_table(comparison).set_index("model")
    pairs = {"ca_cnn": "cnn", "se_densenet": "densenet"}
    for model, baseline in pairs.items():
        right, other = (
            np.array([run.logits.argmax(axis=1) == run.labels for run in comparison.runs[name]])
            for name in (model, baseline)
        )
        row = table.loc[model]
        assert row["gained"] == pytest.approx((right & ~other).sum(axis=1).mean())
        assert row["lost"] == pytest.approx((other & ~right).sum(axis=1).mean())
        assert row["difference"] == pytest.approx(100 * (right.mean() - other.mean()))
        assert 0 <= row["p"] <= row["p_corrected"] <= 1
        assert row["difference_low"] < row["difference"] < row["difference_high"]
        assert row["differs_in"] == "attention"
        assert not row["confounded"]
    expected = [min(1, 2 * p) for p in table.loc[list(pairs), "p"]]  # Bonferroni, of two pairs
    assert list(table.loc[list(pairs), "p_corrected"]) == pytest.approx(expected)
    alone = table.loc["cnn", ["p", "p_corrected", "gained", "lost", "sd_between_seeds", "verdict"]]
    assert alone.isna().all()


def test_comparison_table_holds_calibration_of_networks_and_ensembles(comparison):
    table = tables.comparison_table(comparison).set_index("model")
    for name, runs in comparison.runs.items():
        brier = [
            ((softmax(run.logits, axis=1) - np.eye(len(CLASSES))[run.labels]) ** 2).sum(axis=1)
            for run in runs
        ]
        assert table.loc[name, "brier"] == pytest.approx(np.mean(brier), rel=1e-5)
        mean = np.mean([softmax(run.logits, axis=1) for run in runs], axis=0)
        together = ((mean - np.eye(len(CLASSES))[runs[0].labels]) ** 2).sum(axis=1).mean()
        row = table.loc[f"ensemble: {name}, 3 seeds"]
        assert row["brier"] == pytest.approx(together, rel=1e-5)
    assert table["ece"].between(0, 1).all()


def test_pairs_table_has_the_gain_of_every_run(comparison):
    table = tables.pairs_table(comparison)
    assert list(table["model"]) == ["ca_cnn"] * 3 + ["se_densenet"] * 3
    assert list(table["seed"]) == [0, 1, 2] * 2
    for row in table.to_dict("records"):
        candidate, baseline = (
            comparison.runs[row[key]][row["seed"]] for key in ("model", "baseline")
        )
        right = candidate.logits.argmax(axis=1) == candidate.labels
        other = baseline.logits.argmax(axis=1) == baseline.labels
        assert (row["gained"], row["lost"]) == ((right & ~other).sum(), (other & ~right).sum())
        assert row["gain"] == pytest.approx(100 * (right.mean() - other.mean()))


def test_class_differences_are_those_of_the_recalls(comparison):
    table = tables.class_differences_table(comparison)
    assert list(table["class"]) == [*CLASSES, *CLASSES]
    assert (table["images"] == 40).all()
    recalls = {
        model: np.mean(
            [recall_score(run.labels, run.logits.argmax(axis=1), average=None) for run in runs],
            axis=0,
        )
        for model, runs in comparison.runs.items()
    }
    for model, model_rows in table.groupby("model"):
        baseline = model_rows["baseline"].iloc[0]
        expected = 100 * (recalls[model] - recalls[baseline])
        np.testing.assert_allclose(model_rows["difference"], expected, atol=1e-9)
    assert (table["difference_low"] <= table["difference"]).all()
    assert (table["difference"] <= table["difference_high"]).all()


def test_calibration_table_counts_every_answer_in_its_bin(comparison):
    table = tables.calibration_table(comparison)
    assert set(table["model"]) == set(tables.comparison_table(comparison)["model"])
    for model, runs in comparison.runs.items():
        found = table[table["model"] == model]
        confidence = np.concatenate([softmax(run.logits, axis=1).max(axis=1) for run in runs])
        right = np.concatenate([run.logits.argmax(axis=1) == run.labels for run in runs])
        answers = pd.DataFrame({"confidence": confidence, "right": right})
        bins = pd.cut(answers["confidence"], np.linspace(0, 1, 16), labels=False)
        slow = answers.groupby(bins).mean().reindex(range(15))
        np.testing.assert_array_equal(found["count"], np.bincount(bins, minlength=15))
        np.testing.assert_allclose(found["confidence"], slow["confidence"], rtol=1e-6)
        np.testing.assert_allclose(found["accuracy"], slow["right"], rtol=1e-6)
        np.testing.assert_allclose(found["bin_low"], np.linspace(0, 1, 16)[:-1])
        np.testing.assert_allclose(found["bin_high"], np.linspace(0, 1, 16)[1:])


def test_headline_metrics_hold_what_exists(comparison):
    with_pair = tables.headline_metrics(comparison, "ca_cnn")
    assert {"p_corrected", "ece", "brier", "difference", "accuracy_sd"} <= set(with_pair)
    validated = [
        100 * np.mean([run.history["validation_accuracy"][3] for run in comparison.runs[model]])
        for model in ("ca_cnn", "cnn")
    ]
    assert with_pair["validation_accuracy"] == pytest.approx(validated[0], abs=1e-4)
    assert with_pair["validation_difference"] == pytest.approx(validated[0] - validated[1])
    control = tables.headline_metrics(comparison, "cnn")
    assert {"ece", "brier"} <= set(control)
    assert not {"p_corrected", "difference"} & set(control)
    one_seed = tables.headline_metrics(compared(seeds=1), "ca_cnn")
    assert "difference" in one_seed
    assert not {"p_corrected", "accuracy_sd"} & set(one_seed)
    assert one_seed["reason"] == "a single seed"
    numbers = [of for of in (with_pair | control | one_seed).values() if not isinstance(of, str)]
    assert not any(map(math.isnan, numbers))


def test_verdicts_say_what_the_tables_say(comparison):
    table = tables.comparison_table(comparison).set_index("model")
    (first, _) = tables.verdicts(comparison)["pairs"]
    row = table.loc["ca_cnn"]
    for name, column in (
        ("gain", "difference"),
        ("low", "difference_low"),
        ("high", "difference_high"),
        ("p_corrected", "p_corrected"),
        ("verdict", "verdict"),
    ):
        assert first[name] == row[column]
    assert first["differs_in"] == ["attention"]
    assert (first["seeds"], first["images"], first["margin"]) == (3, 200, 0.5)
    assert np.mean(first["gain_by_seed"]) == pytest.approx(first["gain"])
    (alone, _) = tables.verdicts(compared(seeds=1))["pairs"]
    assert (alone["low"], alone["p"], alone["reason"]) == (None, None, "a single seed")


def test_tables_of_no_pair_have_their_columns_and_no_row():
    alone = compared({"cnn": None})
    for table in (tables.pairs_table(alone), tables.class_differences_table(alone)):
        assert len(table) == 0
        assert {"model", "baseline"} <= set(table)
    assert tables.comparison_table(alone)["verdict"].isna().all()


def test_pairs_table_of_a_cross_validation_has_a_row_for_each_fold():
    folds = compared(design=CROSS_VALIDATED)
    assert len(tables.pairs_table(folds)) == 6
    images = tables.class_differences_table(folds).groupby("model")["images"].sum()
    assert (images == 200 + 207 + 214).all()
