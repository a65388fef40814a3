from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import get_args

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats
from scipy.special import softmax
from sklearn.metrics import balanced_accuracy_score, brier_score_loss, log_loss, recall_score
from sklearn.utils.class_weight import compute_sample_weight
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint

from pipeline.comparison.compare import Comparison, Pair, compare
from pipeline.comparison.design import CROSS_VALIDATED, REPEATED, Design
from pipeline.comparison.runs import Run
from pipeline.comparison.summary import Summary
from pipeline.evaluation.calibration import expected_calibration_error, reliability
from pipeline.models.attention import ATTENTIONS
from pipeline.models.registry import build
from pipeline.report import tables
from pipeline.settings.pairs import READ_BY
from pipeline.settings.schema import Attention
from pipeline.statistics.criteria import Criteria
from tests.unit.made_records import made_evaluation, made_training
from tests.unit.made_runs import made_timings

CLASSES = ("cat", "dog", "bird")
ARCHITECTURES = {
    "cnn": {"family": "cnn", "baseline": None},
    "ca_cnn": {"family": "cnn", "baseline": "cnn", "attention": "channel"},
    "sa_cnn": {"family": "cnn", "baseline": "cnn", "attention": "spatial"},
}
SKILLS = {"cnn": 1.0, "ca_cnn": 1.8, "sa_cnn": 1.0}
CRITERIA = Criteria(confidence=0.95, margin=0.5)


def run(model: str, seed: int, labels: np.ndarray) -> Run:
    generator = np.random.default_rng([seed, list(SKILLS).index(model)])
    difficulty = np.random.default_rng(len(labels)).normal(size=(len(labels), len(CLASSES)))
    logits = difficulty + 0.5 * generator.normal(size=difficulty.shape)
    logits[np.arange(len(labels)), labels] += SKILLS[model]
    return Run(
        model=model,
        seed=seed,
        history=pd.DataFrame({"seconds": [1.0, 2.0], "learning_rate": 0.001}),
        training=made_training(),
        labels=labels,
        logits=logits.astype(np.float32),
        metrics=made_evaluation(logits.astype(np.float32), labels, CLASSES),
        timings=made_timings(1.0),
    )


def compared(
    design: Design, labels_by_run: Sequence[np.ndarray], criteria: Criteria = CRITERIA
) -> Comparison:
    runs = {
        model: [run(model, seed, labels) for seed, labels in enumerate(labels_by_run)]
        for model in ARCHITECTURES
    }
    return compare(runs, ARCHITECTURES, CLASSES, design, criteria, ["seeds", "architectures"])


def labels(images: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).choice(len(CLASSES), images, p=[0.6, 0.3, 0.1])


def pair(comparison: Comparison, model: str) -> Pair:
    found = comparison.entries[model].pair
    assert found is not None
    return found


def summary_of(comparison: Comparison) -> Summary:
    return comparison.entries["cnn"].summary


def right(comparison: Comparison, model: str) -> list[np.ndarray]:
    return [run.logits.argmax(axis=1) == run.labels for run in comparison.runs[model]]


@pytest.mark.parametrize("design", [REPEATED, CROSS_VALIDATED], ids=lambda design: design.unit)
def test_balanced_accuracy_decides_where_it_is_asked_for(design: Design) -> None:
    by_run = [labels(600, 0)] * 4 if design.same_images else [labels(200, k) for k in range(4)]
    asked = Criteria(0.95, 0.5, "balanced_accuracy")
    found = compared(design, by_run, asked)
    scores = {
        model: [
            100 * balanced_accuracy_score(one.labels, one.logits.argmax(axis=1)) for one in runs
        ]
        for model, runs in found.runs.items()
    }
    gain = pair(found, "ca_cnn").gain
    expected = np.subtract(scores["ca_cnn"], scores["cnn"])
    assert gain.gain_by_seed == pytest.approx(tuple(expected))
    assert gain.gain == pytest.approx(expected.mean())
    for model, entry in found.entries.items():
        summary = entry.summary
        assert summary.accuracies == pytest.approx(scores[model])
        assert summary.accuracy.mean == pytest.approx(summary.balanced_accuracy)
        assert summary.accuracy.mean == pytest.approx(np.mean(scores[model]))
        everyone = np.concatenate(right(found, model))
        assert summary.plain_accuracy == pytest.approx(100 * everyone.mean())
        assert summary.accuracy_sd == pytest.approx(statistics.stdev(scores[model]))
        plain = statistics.stdev(100 * one.mean() for one in right(found, model))
        metrics = tables.headline_metrics(found, model)
        assert metrics["accuracy_sd"] == pytest.approx(plain, abs=1e-4)
    usual = compared(design, by_run)
    assert summary_of(usual).balanced_accuracy == summary_of(found).balanced_accuracy
    assert summary_of(usual).accuracy.mean == pytest.approx(summary_of(found).plain_accuracy)


def test_single_run_has_an_interval_of_as_many_images_as_they_are_worth() -> None:
    found = compared(REPEATED, [labels(600, 0)], Criteria(0.95, 0.5, "balanced_accuracy"))
    accuracy = summary_of(found).accuracy
    weights = compute_sample_weight("balanced", found.runs["cnn"][0].labels)
    worth = weights.sum() ** 2 / (weights**2).sum()
    low, high = proportion_confint(accuracy.mean / 100 * worth, worth, method="wilson")
    assert (accuracy.low, accuracy.high) == pytest.approx((100 * low, 100 * high), abs=0.2)


@pytest.fixture(scope="module")
def repeated() -> Comparison:
    return compared(REPEATED, [labels(600, 0)] * 4)


@pytest.fixture(scope="module")
def cross_validated() -> Comparison:
    return compared(CROSS_VALIDATED, [labels(150 + k, k) for k in range(4)])


def test_the_comparison_names_the_classes(repeated: Comparison):
    assert repeated.classes == CLASSES


def test_each_run_has_its_gain_and_the_images_gained_and_lost(repeated: Comparison):
    found = pair(repeated, "ca_cnn")
    both = list(zip(right(repeated, "ca_cnn"), right(repeated, "cnn"), strict=True))
    assert list(found.gained) == [(ours & ~theirs).sum() for ours, theirs in both]
    assert list(found.lost) == [(theirs & ~ours).sum() for ours, theirs in both]
    expected = [100 * (ours.mean() - theirs.mean()) for ours, theirs in both]
    assert list(found.gain.gain_by_seed) == pytest.approx(expected)


def test_gain_that_is_there_pays_and_one_that_is_not_stays_undecided(repeated: Comparison):
    assert pair(repeated, "ca_cnn").judgement.outcome == "pays"
    assert pair(repeated, "sa_cnn").judgement.outcome == "undecided"
    assert repeated.entries["cnn"].pair is None


@pytest.mark.parametrize("design", ["repeated", "cross_validated"])
def test_p_values_and_intervals_are_corrected_for_both_pairs(
    design: str, request: pytest.FixtureRequest
):
    comparison = request.getfixturevalue(design)
    gains = [pair(comparison, model).gain for model in ("ca_cnn", "sa_cnn")]
    expected = multipletests([gain.p for gain in gains], method="bonferroni")[1]
    assert [gain.p_corrected for gain in gains] == pytest.approx(expected.tolist())
    for gain in gains:
        assert (gain.p_corrected < 0.05) == (gain.low > 0 or gain.high < 0)
    assert [gain.confidence for gain in gains] == pytest.approx([0.975, 0.975])


def test_folds_are_tested_with_the_correction_for_shared_training_images(
    cross_validated: Comparison,
):
    found = pair(cross_validated, "ca_cnn").gain
    both = zip(right(cross_validated, "ca_cnn"), right(cross_validated, "cnn"), strict=True)
    means = [100 * (ours.mean() - theirs.mean()) for ours, theirs in both]
    uncorrected = np.std(means, ddof=1) * math.sqrt(1 / 4 + 1 / 3)
    assert found.degrees_of_freedom == 3
    assert found.standard_error >= uncorrected
    assert found.p == pytest.approx(2 * stats.t.sf(found.gain / found.standard_error, 3))


def test_a_single_run_decides_nothing():
    found = pair(compared(REPEATED, [labels(600, 0)]), "ca_cnn")
    assert found.gain.gain > 0
    assert (found.judgement.outcome, found.judgement.reason) == ("undecided", "a single seed")
    assert all(map(math.isnan, (found.gain.low, found.gain.high, found.gain.p_corrected)))


def test_accuracy_of_a_single_run_has_wilsons_interval():
    comparison = compared(REPEATED, [labels(600, 0)])
    found = comparison.entries["cnn"].summary.accuracy
    (correct,) = right(comparison, "cnn")
    low, high = proportion_confint(correct.sum(), 600, method="wilson")
    assert (found.low, found.high) == pytest.approx((100 * low, 100 * high))


def test_accuracy_of_several_seeds_is_less_certain_than_its_images_alone(repeated: Comparison):
    found = repeated.entries["cnn"].summary.accuracy
    correct = np.stack(right(repeated, "cnn"))
    assert found.mean == pytest.approx(100 * correct.mean())
    error = 100 * correct.mean(axis=0).std(ddof=1) / math.sqrt(600)
    assert found.high - found.mean > 1.96 * error


@pytest.mark.parametrize("design", ["repeated", "cross_validated"])
def test_class_differences_are_those_of_recall(design: str, request: pytest.FixtureRequest):
    comparison = request.getfixturevalue(design)
    found = pair(comparison, "ca_cnn").by_class
    assert [one.name for one in found] == list(CLASSES)
    truth = np.concatenate([run.labels for run in comparison.runs["cnn"]])
    recalls = {
        model: 100
        * recall_score(
            truth,
            np.concatenate([run.logits.argmax(axis=1) for run in comparison.runs[model]]),
            average=None,
        )
        for model in ("cnn", "ca_cnn")
    }
    expected = recalls["ca_cnn"] - recalls["cnn"]
    assert [one.difference.mean for one in found] == pytest.approx(expected.tolist())
    images = comparison.design.test_labels(comparison.runs["cnn"])
    assert [one.images for one in found] == np.bincount(images).tolist()
    widths = [one.difference.high - one.difference.low for one in found]
    assert widths[2] > widths[0]  # a tenth of the images against six tenths


def test_a_class_without_test_images_has_no_difference():
    comparison = compared(REPEATED, [np.arange(200) % 2] * 3)
    bird = pair(comparison, "ca_cnn").by_class[2]
    assert (bird.name, bird.images) == ("bird", 0)
    assert math.isnan(bird.difference.mean)


@pytest.mark.parametrize("design", ["repeated", "cross_validated"])
def test_calibration_is_of_all_predictions_of_all_runs(design: str, request: pytest.FixtureRequest):
    comparison = request.getfixturevalue(design)
    runs = comparison.runs["cnn"]
    probabilities = np.concatenate([softmax(run.logits.astype(float), axis=1) for run in runs])
    truth = np.concatenate([run.labels for run in runs])
    summary = comparison.entries["cnn"].summary
    together = reliability(probabilities, truth)
    assert summary.reliability.counts.tolist() == together.counts.tolist()
    assert summary.ece == pytest.approx(expected_calibration_error(together))
    brier = brier_score_loss(truth, probabilities, labels=[0, 1, 2], scale_by_half=False)
    assert summary.brier == pytest.approx(brier)
    assert summary.nll == pytest.approx(log_loss(truth, probabilities))


def test_calibration_of_an_ensemble_is_that_of_its_mean_probabilities(repeated: Comparison):
    (ensemble,) = [one for one in repeated.ensembles if one.model == "cnn"]
    runs = repeated.runs["cnn"]
    probabilities = np.mean([softmax(run.logits.astype(float), axis=1) for run in runs], axis=0)
    together = reliability(probabilities, runs[0].labels)
    assert ensemble.summary.ece == pytest.approx(expected_calibration_error(together))
    assert ensemble.summary.brier == pytest.approx(
        brier_score_loss(runs[0].labels, probabilities, labels=[0, 1, 2], scale_by_half=False)
    )


def test_networks_that_never_disagree_stay_undecided():
    runs = {"cnn": [run("cnn", seed, labels(300, 0)) for seed in range(3)]}
    runs["ca_cnn"] = runs["cnn"]
    architectures = {name: ARCHITECTURES[name] for name in runs}
    found = pair(compare(runs, architectures, CLASSES, REPEATED, CRITERIA, []), "ca_cnn")
    assert found.judgement.outcome == "undecided"
    assert found.gain.gain == 0
    assert found.gain.low < -0.4 < 0.4 < found.gain.high


@pytest.mark.parametrize("attention", get_args(get_args(Attention)[0]))
def test_an_attention_reads_the_settings_that_are_said_to_distinguish_it(attention: str):
    images = torch.rand((2, 16, 6, 6), generator=torch.Generator().manual_seed(0))

    def outputs(reduction: int, heads: int) -> torch.Tensor:
        module = ATTENTIONS[attention](16, reduction, heads).eval()
        generator = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator))
            return module(images)

    differs = {
        "reduction": not torch.equal(outputs(4, 2), outputs(8, 2)),
        "heads": not torch.equal(outputs(4, 2), outputs(4, 4)),
    }
    placed = [
        build(
            {"family": "cnn", "channels": [4, 4], "attention": attention, "attention_at": blocks},
            *(3, 8),
        )
        for blocks in ([1], [2])
    ]
    differs = {
        "attention_at": list(placed[0].attention_layers()) != list(placed[1].attention_layers()),
        **differs,
    }
    assert READ_BY[attention] == tuple(name for name, different in differs.items() if different)
    assert READ_BY.keys() == ATTENTIONS.keys()
