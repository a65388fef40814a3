"""The statistics of `gain` for anybody's predictions, or for two git revisions of this project."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path

import numpy as np

from pipeline.paths import RAW
from pipeline.statistics.criteria import Criteria
from pipeline.statistics.gain import Gain, folds_gain, trained_gain
from pipeline.statistics.outcome import Judgement, is_at_chance, judge
from pipeline.statistics.planning import Plan, plan
from pipeline.storage.reading import load_array
from pipeline.system.errors import InputError
from pipeline.system.formats import interval_name, p_value, percent, points
from pipeline.system.text import plural

SAME_MISTAKES = 5  # in common and no other: more than luck
SUM_TOLERANCE = 0.01  # of the probabilities of an image: those of 16 bits don't add up to 1 exactly


@dataclass(frozen=True)
class Comparison:
    """What a comparison came to."""

    candidate_accuracy: float  # percent, mean over seeds
    baseline_accuracy: float
    gain: Gain
    margin: float
    judgement: Judgement
    names: str | None = None  # what was compared, where files don't say it


def compare_files(
    candidate: Sequence[Path],
    baseline: Sequence[Path],
    labels: Path,
    criteria: Criteria,
) -> Comparison:
    """Compare predictions in ``.npy`` files, one for each seed, of the same images in one order.

    Args:
        candidate: the files, each with predicted classes (N,), probabilities or logits (N, K).
        baseline: the same of the baseline, as many.
        labels: the file with the true classes, integers (N,) from 0.
        criteria: by what they are compared.

    Raises:
        InputError: if a file can't be read, or holds something else.
    """
    for option, files in (("--candidate", candidate), ("--baseline", baseline)):
        _check_seeds(option, len(files))
        twice = [path for path in files if list(files).count(path) > 1]
        if twice:
            raise InputError(f"{option}: {twice[0]} stands there twice; give each seed's own file")
    if both := [path for path in candidate if path in baseline]:
        raise InputError(f"--baseline: {both[0]} is the candidate's; give each network's own file")
    if len(candidate) != len(baseline):
        raise InputError(
            f"--candidate names {plural(len(candidate), 'file')}, --baseline {len(baseline)}; give "
            "as many of both, one for each seed"
        )
    true_classes = _read_labels(labels)
    predicted = {path: _read_predictions(path) for path in (*candidate, *baseline)}
    columns = {path: known for path, (_, known) in predicted.items() if known is not None}
    first = next(iter(columns), None)
    classes = columns[first] if first else int(true_classes.max()) + 1
    for path, known in columns.items():
        if known != classes:
            raise InputError(
                f"{path}: has {known} columns, but {first} has {classes}; expected one for each "
                "class in every file"
            )
    for path, answers in {
        labels: true_classes,
        **{p: a for p, (a, _) in predicted.items()},
    }.items():
        if len(answers) != len(true_classes):
            raise InputError(
                f"{path}: holds {plural(len(answers), 'image')}, but {labels} has "
                f"{len(true_classes):,}; expected the same test images in the same order"
            )
        outside = (answers < 0) | (answers >= classes)
        if outside.any():
            row = int(outside.argmax())
            source = first or labels
            raise InputError(
                f"{path}: row {row} holds the class {answers[row]}, which is not among the labels; "
                f"expected 0 to {classes - 1}, the classes of {source}"
            )
    for one, other in combinations(predicted, 2):
        alike = np.array_equal(predicted[one][0], predicted[other][0])
        if alike and (predicted[one][0] != true_classes).sum() >= SAME_MISTAKES:
            raise InputError(
                f"{other}: has the answers of {one}, all mistakes too; give each seed's own file"
            )
    right = [
        np.stack([predicted[path][0] == true_classes for path in files])
        for files in (candidate, baseline)
    ]
    return compare_answers(right[0], right[1], true_classes, criteria)


def compare_answers(
    candidate: np.ndarray, baseline: np.ndarray, labels: np.ndarray, criteria: Criteria
) -> Comparison:
    """Compare repeated trainings: bool (R, N), whether each answer is right; int (N,), the labels.

    Raises:
        InputError: if there are fewer than two images.
    """
    if len(labels) < 2:
        raise InputError(f"{plural(len(labels), 'test image')}: expected at least two")
    weights = criteria.weights(labels)
    gain = trained_gain(candidate, baseline, criteria.confidence, weights)
    return _judged(gain, candidate, baseline, labels, weights, criteria)


def compare_folds(
    candidate: Sequence[np.ndarray],
    baseline: Sequence[np.ndarray],
    labels: Sequence[np.ndarray],
    criteria: Criteria,
) -> Comparison:
    """Compare the folds of a cross-validation: bool (N_k,) and int (N_k,) for each of them."""
    differences = [
        ours.astype(np.int8) - theirs for ours, theirs in zip(candidate, baseline, strict=True)
    ]
    weights = [criteria.weights(fold_labels) for fold_labels in labels]
    gain = folds_gain(differences, criteria.confidence, weights)
    ours, theirs = (np.concatenate(folds)[None] for folds in (candidate, baseline))
    return _judged(gain, ours, theirs, np.concatenate(labels), np.concatenate(weights), criteria)


def _judged(
    gain: Gain,
    candidate: np.ndarray,
    baseline: np.ndarray,
    labels: np.ndarray,
    weights: np.ndarray,
    criteria: Criteria,
) -> Comparison:
    margin = criteria.margin
    if not 0 < margin < math.inf:
        raise InputError(f"--margin: expected points above 0, such as 0.5, not {margin}")
    at_chance = is_at_chance(candidate, labels) or is_at_chance(baseline, labels)
    accuracy, reference = (100 * float((weights * right).mean()) for right in (candidate, baseline))
    return Comparison(accuracy, reference, gain, margin, judge(gain, margin, reference, at_chance))


def compare_revisions(
    root: Path, baseline: str, candidate: str, model: str | None, criteria: Criteria
) -> Comparison:
    """Compare an architecture in two git revisions or DVC experiments, as far as seeds are common.

    Args:
        root: of the project.
        baseline: the revision that is compared with.
        candidate: the other revision.
        model: an architecture of both; the candidate of each, which its params.yaml names, if None.
        criteria: by what they are compared.

    Raises:
        InputError: if a revision can't be read, they have fewer than two seeds in common, their
            test images differ, or all their answers are the same.
    """
    from pipeline.engines.dvc_revision import read_revision

    ours, theirs = (read_revision(root, name, model) for name in (candidate, baseline))
    seeds = sorted(ours.answers.keys() & theirs.answers.keys())
    if len(seeds) < 2:
        raise InputError(
            f"{baseline} and {candidate} have {plural(len(seeds), 'seed')} in common: how much "
            "another seed would differ is not known; run both with at least two, better five"
        )
    pairs = [(ours.answers[seed], theirs.answers[seed]) for seed in seeds]
    for seed, (one, other) in zip(seeds, pairs, strict=True):
        if not np.array_equal(one.ids, other.ids) or not np.array_equal(one.labels, other.labels):
            shared = len(np.intersect1d(one.ids, other.ids))
            raise InputError(
                f"{baseline} and {candidate}: the test images of seed {seed} differ "
                f"({len(other.ids):,} and {len(one.ids):,}, {shared:,} at the same place of the "
                "source); run one of them with the split of the other"
            )
    if ours.source != theirs.source:
        raise InputError(
            f"{baseline} and {candidate}: the source's files differ ({RAW}), so that test images "
            "can't be paired; run one of them with the data of the other"
        )
    if all(np.array_equal(one.classes, other.classes) for one, other in pairs):
        raise InputError(
            f"{baseline} and {candidate}: all answers are the same, mistakes too: what differs "
            f"between them changes nothing about {ours.model}"
        )
    labels = [one.labels for one, _ in pairs]
    right = [
        [answers.classes == answers.labels for answers in networks]
        for networks in zip(*pairs, strict=True)
    ]
    names = f"{candidate} ({ours.model}) against {baseline} ({theirs.model})"
    if ours.folds:
        return replace(compare_folds(right[0], right[1], labels, criteria), names=names)
    stacked = (np.stack(right[0]), np.stack(right[1]))
    return replace(compare_answers(*stacked, labels[0], criteria), names=names)


def as_json(comparison: Comparison) -> str:
    """Return a comparison as JSON."""
    gain = comparison.gain
    content = {
        "gain": gain.gain,
        "low": gain.low,
        "high": gain.high,
        "p": gain.p,
        "degrees_of_freedom": gain.degrees_of_freedom,
        "verdict": comparison.judgement.outcome,
        "reason": comparison.judgement.reason,
        "margin": comparison.margin,
        "confidence": gain.confidence,
        "standard_error": gain.standard_error,
        "sd_between_seeds": gain.sd_between_seeds,
        "gain_by_seed": gain.gain_by_seed,
        "seeds": gain.seeds,
        "images": gain.images,
        "candidate_accuracy": comparison.candidate_accuracy,
        "baseline_accuracy": comparison.baseline_accuracy,
    }
    return json.dumps(content, indent=2, allow_nan=False)


def as_text(comparison: Comparison) -> str:
    """Return a comparison as a person reads it."""
    gain, judgement = comparison.gain, comparison.judgement
    runs = plural(gain.seeds, "seed" if gain.components else "fold")
    reason = f": {judgement.reason}" if judgement.reason else ""
    named = f"{comparison.names}: " if comparison.names else ""
    lines = [
        f"{named}{judgement.outcome}{reason} (margin {comparison.margin:g} points)",
        f"gain {points(gain.gain)} points ({interval_name(gain.confidence)} {points(gain.low)} to "
        f"{points(gain.high)}), p {p_value(gain.p)}, {gain.degrees_of_freedom:.1f} degrees of "
        "freedom",
        f"{runs}: {', '.join(map(points, gain.gain_by_seed))}; standard deviation "
        f"{gain.sd_between_seeds:.2f}",
        f"accuracy {percent(comparison.candidate_accuracy)}, baseline "
        f"{percent(comparison.baseline_accuracy)}, {plural(gain.images, 'test image')}",
    ]
    if judgement.reason in ("too few seeds", "too few images"):
        lines.append(_next_step(plan(gain, comparison.margin)))
    if judgement.reason == "networks at chance":
        lines.append("are the files and the labels of the same images in the same order?")
    return "\n".join(lines)


def _next_step(made: Plan) -> str:
    """Return how much more of what gives an interval that is narrow enough."""
    would = f"an interval of ±{made.half_width:g} points would take "
    ways = []
    if made.seeds is not None:
        ways.append(f"{plural(made.seeds, 'seed')} in all")
    if made.images is not None:
        ways.append(f"{plural(made.images, 'test image')} in all")
    if not ways:
        return would + "more seeds and more test images, neither alone"
    return would + " or ".join(ways) + (", no number of seeds" if made.too_few_images else "")


def _check_seeds(option: str, files: int) -> None:
    if files < 2:
        raise InputError(
            f"{option}: {plural(files, 'file')}, a single seed: how much another seed would differ "
            "is not known; give a file for each of at least two seeds, better five"
        )


def _read_numbers(path: Path) -> np.ndarray:
    """Return an array of finite numbers.

    Raises:
        InputError: if the file holds anything else.
    """
    array = load_array(path)
    if array.dtype.kind not in "iuf":
        raise InputError(
            f"{path}: holds {array.dtype}; expected integers or floating-point numbers"
        )
    finite = np.isfinite(array)
    if not finite.all():
        where = np.unravel_index(int(finite.argmin()), array.shape)
        row = int(where[0]) if where else 0
        raise InputError(f"{path}: holds {array[where]} in row {row}; expected finite numbers")
    return array


def _whole(path: Path, array: np.ndarray) -> np.ndarray:
    """Return classes (N,) as int64."""
    fractions = array != np.floor(array)
    if fractions.any():
        row = int(fractions.argmax())
        raise InputError(
            f"{path}: row {row} holds {array[row]:g}, which is no class; expected integers (N,), "
            "or probabilities or logits (N, K)"
        )
    return array.astype(np.int64)


def _read_labels(path: Path) -> np.ndarray:
    labels = _read_numbers(path)
    if labels.ndim != 1 or len(labels) == 0:
        raise InputError(f"{path}: has the shape {labels.shape}; expected true classes (N,)")
    return _whole(path, labels)


def _read_predictions(path: Path) -> tuple[np.ndarray, int | None]:
    """Return predicted classes int64 (N,), and how many classes there are where a file says it.

    Of (N, K), any finite numbers are logits; only where all are in [0, 1] are they probabilities,
    whose rows add up to 1.
    """
    array = _read_numbers(path)
    if array.ndim == 1 and len(array):
        return _whole(path, array), None
    if array.ndim != 2 or array.shape[0] == 0 or array.shape[1] < 2:
        raise InputError(
            f"{path}: has the shape {array.shape}; expected predicted classes (N,), or "
            "probabilities or logits (N, K)"
        )
    if array.min() >= 0 and array.max() <= 1:
        sums = array.sum(axis=1, dtype=np.float64)
        wrong = np.abs(sums - 1) > SUM_TOLERANCE
        if wrong.any():
            row = int(wrong.argmax())
            raise InputError(
                f"{path}: holds values that are not probabilities: row {row} adds up to "
                f"{sums[row]:.3g}; expected 1, or logits, which are not all in [0, 1]"
            )
    return array.argmax(axis=1), array.shape[1]
