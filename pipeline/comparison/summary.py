"""What several runs of the same thing come to: accuracy, likelihood, calibration and costs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.comparison.runs import Run
from pipeline.evaluation import calibration, ensembles
from pipeline.evaluation.calibration import Reliability
from pipeline.statistics.estimates import Estimate, accuracy_estimate


@dataclass(frozen=True, kw_only=True)
class _Measured:
    """What a trial and several together have: of all their test images, and of their costs."""

    nll: float  # mean negative log-likelihood, nats
    brier: float  # Brier score, in [0, 2]
    reliability: Reliability  # whether the confidence came true
    parameters: int  # how many
    macs: int  # multiply-accumulates for one image
    latencies: np.ndarray  # float (rounds of measuring,), time for one image, ms
    training_seconds: float  # time of all epochs, mean over trials


@dataclass(frozen=True, kw_only=True)
class Trial(_Measured):
    """One run of a network, or of several networks that answer together."""

    correct: np.ndarray  # bool (N,), which test images it got right
    throughputs: np.ndarray  # float (rounds of measuring,), images per second


@dataclass(frozen=True, kw_only=True)
class Summary(_Measured):
    """Several trials together."""

    accuracies: np.ndarray  # float (R,), test accuracy of each trial in percent
    accuracy: Estimate  # that of all images of all trials, in percent
    accuracy_sd: float  # sample standard deviation of `accuracies`; NaN for a single trial
    ece: float  # expected calibration error of all images of all trials, in [0, 1]
    latency_ms: float  # median of `latencies`
    throughput: float  # images per second, median over rounds
    training_times: np.ndarray  # float (R,), time of all epochs of each trial, seconds


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


def summarise(trials: Sequence[Trial], same_images: bool, confidence: float) -> Summary:
    """Return what trials of the same thing come to together; see `accuracy_estimate`."""
    accuracies = np.array([100 * trial.correct.mean() for trial in trials])
    training_times = np.array([trial.training_seconds for trial in trials])
    images = [len(trial.correct) for trial in trials]
    reliability = calibration.pooled([trial.reliability for trial in trials])
    return Summary(
        accuracies=accuracies,
        accuracy=accuracy_estimate([trial.correct for trial in trials], same_images, confidence),
        accuracy_sd=float(accuracies.std(ddof=1)) if len(trials) > 1 else math.nan,
        nll=float(np.average([trial.nll for trial in trials], weights=images)),
        ece=calibration.expected_calibration_error(reliability),
        brier=float(np.average([trial.brier for trial in trials], weights=images)),
        reliability=reliability,
        parameters=trials[0].parameters,
        macs=trials[0].macs,
        latency_ms=float(np.median(trials[0].latencies)),
        throughput=float(np.median(trials[0].throughputs)),
        training_seconds=float(training_times.mean()),
        latencies=trials[0].latencies,
        training_times=training_times,
    )


def confusion_counts(runs: Sequence[Run]) -> np.ndarray:
    """Return the confusion matrix int64 (K, K), rows true, pooled over runs."""
    return np.sum([run.metrics.confusion for run in runs], axis=0)
