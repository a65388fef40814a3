"""The section on how sure all this is."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.special import softmax

from pipeline.report.filters import environment
from pipeline.report.published_accuracies import PLAIN, WITH_CHANNEL_ATTENTION
from pipeline.settings import load
from pipeline.statistics.gain import corrected, trained_gain
from pipeline.statistics.planning import Plan, plan
from tests.unit.made_runs import compared, viewed
from tests.unit.report.made_project import (
    CLASSES,
    Project,
    call_best,
    caveats,
    first_paragraph,
    line_of_answer,
    section,
    settings,
    stop_early,
    table_under,
)

PLAN = Plan(half_width=0.5, seeds=8, images=9000, too_few_images=False)


def test_rule_of_the_verdict_has_the_margin_of_the_settings(project: Project):
    content = settings().model_dump()
    content["report"] |= {"margin": 1.5}
    found = section(project.report(load.check(content)), "## How sure")
    assert "all of it lies at or above +1.5 points" in found
    assert "all of it lies below +1.5 points" in found


def test_confidence_of_the_settings_is_that_of_the_intervals(project: Project):
    content = settings().model_dump()
    content["report"] |= {"confidence": 0.9}
    text = project.report(load.check(content))
    assert "with its 95 % interval, corrected for the number of pairs" in text  # two pairs


def test_what_would_decide_an_undecided_pair_is_as_compare_says(reported: tuple[Project, str]):
    project, text = reported
    right = {
        model: np.stack(
            [project.logits[model, s].argmax(axis=1) == project.labels[0] for s in (0, 1)]
        )
        for model in ("ca_cnn", "cnn", "se_densenet", "densenet")
    }
    pairs = (("ca_cnn", "cnn"), ("se_densenet", "densenet"))
    gain = corrected([trained_gain(right[one], right[other]) for one, other in pairs])[0]
    made = plan(gain, 0.5)
    assert (made.seeds, made.images, made.too_few_images) == (None, None, True)
    assert line_of_answer(text, "Next step") == (
        "far more test images would narrow the interval to ±0.50 points, the margin; no number of "
        "seeds can."
    )


def test_what_would_decide_it_names_seeds_with_their_time_and_images():
    found = viewed(compared(images=4000), "ca_cnn")
    pair = found.candidate.pair
    assert pair is not None
    decided = replace(found, candidate=replace(found.candidate, pairs=(replace(pair, plan=PLAN),)))
    text = environment().get_template("answer.j2").module.deciding(decided.candidate.pair, found)
    # a run of `ca_cnn` is made up to take 6 seconds, of `cnn` 3; there are 3 seeds
    assert " ".join(text.split()) == (
        "8 seeds each of `ca_cnn` and `cnn` instead of 3 (10 more trainings, at least 45 s one "
        "after the other) or 9,000 test images in all would narrow the interval to ±0.50 points, "
        "the margin"
    )


def test_calibration_stands_in_the_report(reported: tuple[Project, str]):
    project, text = reported
    probabilities = softmax(
        np.concatenate([project.logits["cnn", seed] for seed in (0, 1)]).astype(float), axis=1
    )
    truth = np.eye(len(CLASSES))[np.concatenate([project.labels[seed] for seed in (0, 1)])]
    brier = ((probabilities - truth) ** 2).sum(axis=1).mean()
    (row,) = [row for row in table_under(text, "Calibration") if row[0] == "cnn"]
    assert float(row[2]) == pytest.approx(brier, abs=5.1e-5)
    # in the mean, whatever the bins
    excess = probabilities.max(axis=1) - truth[np.arange(len(truth)), probabilities.argmax(axis=1)]
    (said,) = re.findall(r"of `cnn` is off by ([\d.]+) points \(too (high|low)\)", text)
    assert said[1] == ("high" if excess.mean() > 0 else "low")
    assert abs(excess.mean()) > float(said[0]) / 200


def test_training_that_was_still_improving_is_named(
    project: Project, reported: tuple[Project, str]
):
    assert not any("last epoch" in line for line in caveats(reported[1]))
    for seed in (0, 1):
        call_best(project, "ca_cnn", seed, 5)
    (found,) = [line for line in caveats(project.report(settings())) if "last epoch" in line]
    assert "`ca_cnn`" in found
    path = project.root / "data" / "trained" / "ca_cnn" / "0" / "history.csv"
    constant = path.read_text()
    history = pd.read_csv(path)  # of cosine annealing the last epoch is the best as a rule
    history["learning_rate"] = 0.001 * (1 + np.cos(np.pi * np.arange(1, 6) / 6)) / 2
    history.to_csv(path, index=False)
    assert not any("last epoch" in line for line in caveats(project.report(settings())))
    path.write_text(constant)
    call_best(project, "ca_cnn", 1, 4)  # one of two is not most
    assert not any("last epoch" in line for line in caveats(project.report(settings())))


def test_early_stopping_at_the_best_epoch_points_to_its_patience(project: Project):
    for seed in (0, 1):
        stop_early(project, "ca_cnn", seed, 3)
        call_best(project, "ca_cnn", seed, 3)
    (found,) = [line for line in caveats(project.report(settings())) if "last epoch" in line]
    assert "`ca_cnn`: a larger `train.early_stopping` may change" in found


def test_two_models_that_agree_on_every_image_are_undecided(project: Project):
    evaluated = project.root / "data" / "evaluated"
    for seed in ("0", "1"):
        shutil.copytree(evaluated / "cnn" / seed, evaluated / "ca_cnn" / seed, dirs_exist_ok=True)
    trained = project.root / "data" / "trained"
    for seed in ("0", "1"):
        shutil.copyfile(
            trained / "cnn" / seed / "model.safetensors",
            trained / "ca_cnn" / seed / "model.safetensors",
        )
    text = project.report(settings())
    assert "Undecided" in first_paragraph(text)
    assert "0.00 (0.00 to 0.00)" not in text
    assert not re.search(r"\bnan\b", text)


def test_model_below_the_majority_class_may_still_distinguish_the_classes(project: Project):
    found = viewed(compared(), "ca_cnn")
    first = replace(found.candidate, beats_majority=False, guesses=False)
    others = [one for one in found.architectures if one.name != "ca_cnn"]
    template = environment().get_template("certainty.md.j2")
    figures = {"reliability": "figures/reliability.png"}
    changed = replace(found, architectures=(first, *others), figures=figures)
    (sentence,) = [line for line in caveats(template.render(view=changed)) if "exceed" in line]
    assert sentence == (
        f"- `ca_cnn` is not shown to exceed majority-class accuracy "
        f"({found.majority_class_accuracy:.1f} %), but it does distinguish the classes: their mean "
        f"recall is {first.summary.balanced_accuracy:.1f} %."
    )


def test_published_accuracies_stand_beside_the_same_architectures():
    found = viewed(compared(), "ca_cnn")
    published = {"cnn": (PLAIN,), "ca_cnn": (WITH_CHANNEL_ATTENTION,)}
    architectures = tuple(
        replace(one, published=published.get(one.name, ())) for one in found.architectures
    )
    figures = {"reliability": "figures/reliability.png"}
    template = environment().get_template("certainty.md.j2")
    text = template.render(view=replace(found, architectures=architectures, figures=figures))
    rows = table_under(text, "Published accuracies")
    assert [(row[0], row[2]) for row in rows[1:]] == [("cnn", "84.68"), ("ca_cnn", "85.38")]
    assert "p = 0.165 (unpaired)" in text
    assert "Adam" not in text.split("### Published accuracies")[1]  # SPEC: the source names none
    text = template.render(view=replace(found, figures=figures))
    assert "Published" not in text
