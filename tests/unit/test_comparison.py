from __future__ import annotations

import math
from collections.abc import Sequence
from typing import get_args

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats
from scipy.special import softmax
from sklearn.metrics import brier_score_loss, log_loss, recall_score
from statsmodels.stats.multitest import multipletests

from pipeline.comparison.compare import READ_BY, Comparison, Judgement, Pair, compare
from pipeline.comparison.design import CROSS_VALIDATED, REPEATED, Design
from pipeline.comparison.runs import Run, Timings
from pipeline.evaluation.calibration import expected_calibration_error, reliability
from pipeline.models.attention import ATTENTIONS
from pipeline.settings.schema import Attention
from tests.unit.made_records import made_evaluation, made_training

CLASSES = ("cat", "dog", "bird")
ARCHITECTURES = {
    "cnn": {"family": "cnn", "baseline": None},
    "ca_cnn": {"family": "cnn", "baseline": "cnn", "attention": "channel"},
    "sa_cnn": {"family": "cnn", "baseline": "cnn", "attention": "spatial"},
}
SKILLS = {"cnn": 1.0, "ca_cnn": 1.8, "sa_cnn": 1.0}
JUDGEMENT = Judgement(confidence=0.95, resamples=300, margin=0.5, seed=0)


def run(model: str, seed: int, labels: np.ndarray) -> Run:
    generator = np.random.default_rng([seed, list(SKILLS).index(model)])
    difficulty = np.random.default_rng(len(labels)).normal(size=(len(labels), len(CLASSES)))
    logits = difficulty + 0.5 * generator.normal(size=difficulty.shape)
    logits[np.arange(len(labels)), labels] += SKILLS[model]
    return Run(
        model=model,
        seed=seed,
        history=pd.DataFrame({"seconds": [1.0, 2.0]}),
        training=made_training(),
        labels=labels,
        logits=logits.astype(np.float32),
        metrics=made_evaluation(logits.astype(np.float32), labels, CLASSES),
        timings=Timings(np.ones(5), np.full(5, 100.0), "a CPU"),
    )


def compared(design: Design, labels_by_run: Sequence[np.ndarray]) -> Comparison:
    runs = {
        model: [run(model, seed, labels) for seed, labels in enumerate(labels_by_run)]
        for model in ARCHITECTURES
    }
    return compare(runs, ARCHITECTURES, CLASSES, design, JUDGEMENT, ["seeds", "architectures"])


def labels(images: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).choice(len(CLASSES), images, p=[0.6, 0.3, 0.1])


def pair(comparison: Comparison, model: str) -> Pair:
    found = comparison.entries[model].pair
    assert found is not None
    return found


def right(comparison: Comparison, model: str) -> list[np.ndarray]:
    return [run.logits.argmax(axis=1) == run.labels for run in comparison.runs[model]]


@pytest.fixture(scope="module")
def repeated() -> Comparison:
    return compared(REPEATED, [labels(600, 0)] * 4)


@pytest.fixture(scope="module")
def cross_validated() -> Comparison:
    return compared(CROSS_VALIDATED, [labels(150 + k, k) for k in range(4)])


def test_the_comparison_names_the_classes(repeated: Comparison):
    assert repeated.classes == CLASSES


def test_each_run_is_tested_by_mcnemar(repeated: Comparison):
    found = pair(repeated, "ca_cnn").mcnemar
    assert len(found) == 4
    for test, ours, theirs in zip(
        found, right(repeated, "ca_cnn"), right(repeated, "cnn"), strict=True
    ):
        assert test.gained == (ours & ~theirs).sum()
        assert test.lost == (theirs & ~ours).sum()
        assert test.p == stats.binomtest(test.gained, test.gained + test.lost).pvalue


def test_gain_that_is_there_pays_and_one_that_is_not_stays_undecided(repeated: Comparison):
    assert pair(repeated, "ca_cnn").verdict == "pays"
    assert pair(repeated, "sa_cnn").verdict == "undecided"
    assert repeated.entries["cnn"].pair is None


@pytest.mark.parametrize("design", ["repeated", "cross_validated"])
def test_p_values_are_corrected_for_both_pairs(design: str, request: pytest.FixtureRequest):
    comparison = request.getfixturevalue(design)
    pairs = [pair(comparison, model) for model in ("ca_cnn", "sa_cnn")]
    assert pairs[0].p.no_difference < pairs[1].p.no_difference
    for given, corrected in (("no_difference", "no_difference_holm"), ("margin", "margin_holm")):
        expected = multipletests([getattr(one.p, given) for one in pairs], method="holm")[1]
        assert [getattr(one.p, corrected) for one in pairs] == pytest.approx(expected.tolist())


def test_folds_are_tested_with_the_correction_for_shared_training_images(
    cross_validated: Comparison,
):
    found = pair(cross_validated, "ca_cnn")
    both = zip(right(cross_validated, "ca_cnn"), right(cross_validated, "cnn"), strict=True)
    means = [100 * (ours.mean() - theirs.mean()) for ours, theirs in both]
    error = np.std(means, ddof=1) * math.sqrt(1 / 4 + 1 / 3)
    assert found.p.no_difference == pytest.approx(2 * stats.t.sf(found.difference.mean / error, 3))
    detectable = (stats.t.ppf(0.975, 3) + stats.t.ppf(0.8, 3)) * error
    assert found.smallest_detectable == pytest.approx(detectable)


def test_a_single_run_has_its_mcnemar_and_decides_nothing():
    comparison = compared(REPEATED, [labels(600, 0)])
    found = pair(comparison, "ca_cnn")
    assert found.mcnemar[0].p < 0.001
    assert found.difference.low > 0
    assert found.verdict == "undecided"
    assert all(map(math.isnan, vars(found.p).values()))
    discordant = found.mcnemar[0].gained + found.mcnemar[0].lost
    expected = (1.959964 + 0.841621) * 100 * math.sqrt(discordant) / 600
    assert found.smallest_detectable == pytest.approx(expected, rel=1e-5)


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
    comparison = compare(runs, architectures, CLASSES, REPEATED, JUDGEMENT, [])
    found = pair(comparison, "ca_cnn")
    assert found.verdict == "undecided"
    assert math.isnan(found.p.no_difference_holm)
    assert math.isnan(found.smallest_detectable)
    assert [test.p for test in found.mcnemar] == [1.0] * 3


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
    assert READ_BY[attention] == tuple(name for name, different in differs.items() if different)
    assert READ_BY.keys() == ATTENTIONS.keys()
