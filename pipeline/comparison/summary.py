"""What several runs of the same thing come to: accuracy, likelihood, calibration and costs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.comparison.runs import Run
from pipeline.evaluation import calibration, ensembles
from pipeline.evaluation.calibration import Reliability
from pipeline.statistics.criteria import Criteria
from pipeline.statistics.estimates import Estimate, accuracy_estimate, balancing_weights
from pipeline.system.machine import BUSY

# attributes of a Summary
COSTS = (
    *("parameters", "macs", "latency_ms", "training_seconds"),
    *("inference_memory", "training_memory"),
)
ROUNDS_OF = {"latency_ms": "latencies", "training_seconds": "training_times"}


@dataclass(frozen=True, kw_only=True)
class _Measured:
    """What a trial and several together have: of all their test images, and of their costs."""

    nll: float  # mean negative log-likelihood, nats
    brier: float  # Brier score, in [0, 2]
    reliability: Reliability  # whether the confidence came true
    parameters: int  # how many
    macs: int  # multiply-accumulates for one image
    latencies: np.ndarray  # float (rounds of measuring,), time for one image, ms
    throughputs: np.ndarray  # the same, images per second
    training_throughputs: np.ndarray  # the same, of training
    training_times: np.ndarray  # the same, time of all steps of all epochs, mean over trials, s
    inference_memory: int  # bytes at its peak, of a full batch
    training_memory: int  # the same, of training
    busy: bool  # other processes disturbed the rounds


@dataclass(frozen=True, kw_only=True)
class Trial(_Measured):
    """One run of a network, or of several networks that answer together."""

    correct: np.ndarray  # bool (N,), which test images it got right
    labels: np.ndarray  # int64 (N,), their true classes


@dataclass(frozen=True, kw_only=True)
class Summary(_Measured):
    """Several trials together."""

    accuracies: np.ndarray  # float (R,), what counts as accuracy of each trial, in percent
    accuracy: Estimate  # that of all images of all trials, in percent
    plain_accuracy: float  # the same in any case of single images, in percent
    balanced_accuracy: float  # the same in any case of classes, in percent
    accuracy_sd: float  # sample standard deviation of `accuracies`; NaN for a single trial
    plain_accuracy_sd: float  # the same of the accuracies of single images
    ece: float  # expected calibration error of all images of all trials, in [0, 1]
    latency_ms: float  # median of `latencies`
    throughput: float  # median of `throughputs`
    training_throughput: float  # median of `training_throughputs`
    training_seconds: float  # median of `training_times`

    def rounds(self, name: str) -> np.ndarray:
        """Return one of `COSTS` by round of measuring; a single number if it is exact."""
        return np.atleast_1d(getattr(self, ROUNDS_OF.get(name, name)))

    def cost(self, name: str) -> float | np.ndarray:
        """Return one of `COSTS` to be compared by `statistics.cost_ratio`.

        Of rounds on a busy machine there is only one, which shows no difference: work of others
        makes one network several times as slow and another hardly.
        """
        if name not in ROUNDS_OF:
            return getattr(self, name)
        return self.rounds(name)[: 1 if self.busy else None]


def run_trial(run: Run) -> Trial:
    """Return a run as a trial."""
    probabilities = ensembles.mean_probabilities([run.logits])
    return Trial(
        correct=run.logits.argmax(axis=1) == run.labels,
        labels=run.labels,
        nll=run.metrics.nll,
        brier=calibration.brier_score(probabilities, run.labels),
        reliability=calibration.reliability(probabilities, run.labels),
        parameters=run.metrics.parameters,
        macs=run.metrics.macs,
        latencies=run.timings.latencies,
        throughputs=run.timings.throughputs,
        training_throughputs=run.timings.training_throughputs,
        training_times=run.training.epochs * run.training.images / run.timings.training_throughputs,
        inference_memory=run.timings.inference_memory,
        training_memory=run.timings.training_memory,
        busy=run.timings.other_processes > BUSY,
    )


def ensemble_trial(members: Sequence[Run]) -> Trial:
    """Return the ensemble of `members`, tested on the same images, as a trial.

    Its costs are those of training and asking one member after the other: the sum of theirs, but
    for memory, of which the hungriest member decides.
    """
    logits, labels = [run.logits for run in members], members[0].labels
    probabilities = ensembles.mean_probabilities(logits)
    alone = [run_trial(run) for run in members]
    return Trial(
        correct=probabilities.argmax(axis=1) == labels,
        labels=labels,
        nll=ensembles.negative_log_likelihood(logits, labels),
        brier=calibration.brier_score(probabilities, labels),
        reliability=calibration.reliability(probabilities, labels),
        parameters=sum(trial.parameters for trial in alone),
        macs=sum(trial.macs for trial in alone),
        latencies=np.sum([trial.latencies for trial in alone], axis=0),
        throughputs=1 / np.sum([1 / trial.throughputs for trial in alone], axis=0),
        training_throughputs=1
        / np.sum([1 / trial.training_throughputs for trial in alone], axis=0),
        training_times=np.sum([trial.training_times for trial in alone], axis=0),
        inference_memory=max(trial.inference_memory for trial in alone),
        training_memory=max(trial.training_memory for trial in alone),
        busy=any(trial.busy for trial in alone),
    )


def summarise(trials: Sequence[Trial], same_images: bool, criteria: Criteria) -> Summary:
    """Return what trials of the same thing come to together; see `accuracy_estimate`."""
    correct = [trial.correct for trial in trials]
    weights = [criteria.weights(trial.labels) for trial in trials]
    accuracies = _accuracies(correct, weights)
    plain = np.array([100 * one.mean() for one in correct])
    balanced = _accuracies(correct, [balancing_weights(trial.labels) for trial in trials])
    training_times = np.mean([trial.training_times for trial in trials], axis=0)
    images = [len(trial.correct) for trial in trials]
    reliability = calibration.pooled([trial.reliability for trial in trials])
    return Summary(
        accuracies=accuracies,
        accuracy=accuracy_estimate(correct, weights, same_images, criteria.confidence),
        plain_accuracy=100 * float(np.concatenate(correct).mean()),
        balanced_accuracy=float(np.average(balanced, weights=images)),
        accuracy_sd=float(accuracies.std(ddof=1)) if len(trials) > 1 else math.nan,
        plain_accuracy_sd=float(plain.std(ddof=1)) if len(trials) > 1 else math.nan,
        nll=float(np.average([trial.nll for trial in trials], weights=images)),
        ece=calibration.expected_calibration_error(reliability),
        brier=float(np.average([trial.brier for trial in trials], weights=images)),
        reliability=reliability,
        parameters=trials[0].parameters,
        macs=trials[0].macs,
        latency_ms=float(np.median(trials[0].latencies)),
        throughput=float(np.median(trials[0].throughputs)),
        training_throughput=float(np.median(trials[0].training_throughputs)),
        training_seconds=float(np.median(training_times)),
        latencies=trials[0].latencies,
        throughputs=trials[0].throughputs,
        training_throughputs=trials[0].training_throughputs,
        training_times=training_times,
        inference_memory=trials[0].inference_memory,
        training_memory=trials[0].training_memory,
        busy=trials[0].busy,
    )


def _accuracies(correct: Sequence[np.ndarray], weights: Sequence[np.ndarray]) -> np.ndarray:
    """Return float (R,), in percent, of bool (N_r,) and float (N_r,) for each trial."""
    return np.array([100 * (w * c).mean() for w, c in zip(weights, correct, strict=True)])


def confusion_counts(runs: Sequence[Run]) -> np.ndarray:
    """Return the confusion matrix int64 (K, K), rows true, pooled over runs."""
    return np.sum([run.metrics.confusion for run in runs], axis=0)
