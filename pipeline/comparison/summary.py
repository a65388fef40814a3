"""What several runs of the same thing come to: accuracy, likelihood, calibration and costs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.comparison.runs import Run
from pipeline.evaluation import calibration, ensembles
from pipeline.evaluation.calibration import Reliability
from pipeline.statistics.estimates import Bootstrap, Estimate, accuracy_estimate


@dataclass(frozen=True)
class Trial:
    """One run of a network, or of several networks that answer together.

    Attributes:
        correct: bool (N,), which test images it got right.
        nll: mean negative log-likelihood of the test images, nats.
        brier: their Brier score, in [0, 2].
        reliability: whether the confidence in them came true.
        parameters: number of parameters.
        macs: multiply-accumulates for one image.
        latencies: float (R,), time for one image in each round of measuring, ms.
        throughputs: float (R,), images per second in each round.
        training_seconds: time of all epochs.
    """

    correct: np.ndarray
    nll: float
    brier: float
    reliability: Reliability
    parameters: int
    macs: int
    latencies: np.ndarray
    throughputs: np.ndarray
    training_seconds: float


@dataclass(frozen=True)
class Summary:
    """Several trials together.

    Attributes:
        accuracies: float (R,), test accuracy of each trial in percent.
        accuracy: that of all images of all trials, with its interval, in percent.
        accuracy_sd: sample standard deviation of `accuracies`; NaN for a single trial.
        nll: mean negative log-likelihood of all images of all trials, nats.
        ece: expected calibration error of all images of all trials, in [0, 1].
        brier: Brier score of all images of all trials, in [0, 2].
        reliability: of all images of all trials.
        parameters: number of parameters.
        macs: multiply-accumulates for one image.
        latency_ms: time for one image, median over rounds of measuring.
        throughput: images per second, median over rounds.
        training_seconds: time of all epochs, mean over trials.
        latencies: float, time for one image in each round of measuring, ms.
        training_times: float (R,), time of all epochs of each trial, seconds.
    """

    accuracies: np.ndarray
    accuracy: Estimate
    accuracy_sd: float
    nll: float
    ece: float
    brier: float
    reliability: Reliability
    parameters: int
    macs: int
    latency_ms: float
    throughput: float
    training_seconds: float
    latencies: np.ndarray
    training_times: np.ndarray


def run_trial(run: Run) -> Trial:
    """Return a run as a trial."""
    probabilities = ensembles.mean_probabilities([run.logits])
    return Trial(
        correct=run.logits.argmax(axis=1) == run.labels,
        nll=run.metrics.nll,
        brier=calibration.brier_score(probabilities, run.labels),
        reliability=calibration.reliability(probabilities, run.labels),
        parameters=run.metrics.parameters,
        macs=run.metrics.macs,
        latencies=run.timings.latencies,
        throughputs=run.timings.throughputs,
        training_seconds=float(run.history["seconds"].sum()),
    )


def ensemble_trial(members: Sequence[Run]) -> Trial:
    """Return the ensemble of `members`, tested on the same images, as a trial.

    Its costs are those of asking one member after the other.
    """
    logits, labels = [run.logits for run in members], members[0].labels
    probabilities = ensembles.mean_probabilities(logits)
    alone = [run_trial(run) for run in members]
    return Trial(
        correct=probabilities.argmax(axis=1) == labels,
        nll=ensembles.negative_log_likelihood(logits, labels),
        brier=calibration.brier_score(probabilities, labels),
        reliability=calibration.reliability(probabilities, labels),
        parameters=sum(trial.parameters for trial in alone),
        macs=sum(trial.macs for trial in alone),
        latencies=np.sum([trial.latencies for trial in alone], axis=0),
        throughputs=1 / np.sum([1 / trial.throughputs for trial in alone], axis=0),
        training_seconds=math.fsum(trial.training_seconds for trial in alone),
    )


def summarise(trials: Sequence[Trial], bootstrap: Bootstrap) -> Summary:
    """Return what trials of the same thing come to together."""
    accuracies = np.array([100 * trial.correct.mean() for trial in trials])
    images = [len(trial.correct) for trial in trials]
    reliability = calibration.pooled([trial.reliability for trial in trials])
    return Summary(
        accuracies=accuracies,
        accuracy=accuracy_estimate([trial.correct for trial in trials], bootstrap),
        accuracy_sd=float(accuracies.std(ddof=1)) if len(trials) > 1 else math.nan,
        nll=float(np.average([trial.nll for trial in trials], weights=images)),
        ece=calibration.expected_calibration_error(reliability),
        brier=float(np.average([trial.brier for trial in trials], weights=images)),
        reliability=reliability,
        parameters=trials[0].parameters,
        macs=trials[0].macs,
        latency_ms=float(np.median(trials[0].latencies)),
        throughput=float(np.median(trials[0].throughputs)),
        training_seconds=float(np.mean([trial.training_seconds for trial in trials])),
        latencies=trials[0].latencies,
        training_times=np.array([trial.training_seconds for trial in trials]),
    )


def confusion_counts(runs: Sequence[Run]) -> np.ndarray:
    """Return the confusion matrix int64 (K, K), rows true, pooled over runs."""
    return np.sum([run.metrics.confusion for run in runs], axis=0)
