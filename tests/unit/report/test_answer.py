"""The answer: the report's first sentence, and what stands beside it."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import balanced_accuracy_score

from pipeline.report.filters import environment
from pipeline.report.terminal import print_summary
from pipeline.report.view import ComparedPair, View
from pipeline.settings import load
from pipeline.settings.pairs import differing
from pipeline.settings.schema import Settings
from pipeline.statistics.criteria import Criteria
from pipeline.statistics.looking import Intervention, Looking, Looks
from pipeline.statistics.outcome import Judgement, Outcome
from pipeline.storage import records
from pipeline.system.errors import InputError
from tests.unit.made_records import made_evaluation
from tests.unit.made_runs import compared, viewed
from tests.unit.report.made_project import (
    CLASSES,
    TEST_IMAGES,
    Project,
    beside_the_answer,
    caveats,
    first_paragraph,
    line_of_answer,
    section,
    settings,
    tables,
    written,
)


def test_sections_lead_from_the_answer_to_how_it_was_made(reported: tuple[Project, str]):
    _, text = reported
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == [
        "Comparison",
        "Cost",
        "Where it helps and hurts",
        "What it looks at",
        "How sure",
        "How it was made",
    ]


def test_first_sentence_answers_for_the_candidate_with_its_cost(reported: tuple[Project, str]):
    project, text = reported
    sentence = first_paragraph(text)
    assert sentence.startswith("**Does channel attention pay for `ca_cnn` on digits?")
    assert "at 97.5 % confidence" in sentence  # corrected for two pairs
    assert sentence.endswith("with 2 seeds.")
    assert line_of_answer(text, "Price") == "2.0 % more parameters and 25 % more latency."
    (found, _) = json.loads((project.reports / "verdict.json").read_text())["pairs"]
    assert f"test accuracy over `cnn` is {found['gain']:+.2f} points" in sentence
    assert f"({found['low']:+.2f} to {found['high']:+.2f} at" in sentence
    assert f"Undecided: {found['reason']}.**" in sentence
    step = line_of_answer(text, "Next step")
    assert " would narrow the interval to ±0.50 points, the margin" in step
    assert found["reason"] == "too few images"
    assert line_of_answer(text, "Strongest doubt") == (
        "the test set is small for the question: one of 40 images is 2.5 points."
    )


def test_a_line_says_whether_the_attention_looks_at_the_image(
    project: Project, reported: tuple[Project, str]
):
    _, text = reported
    found = line_of_answer(text, "Attention")
    assert found.startswith(
        "looks at the image: with the same attention weights for all images, accuracy falls by "
    )
    assert found.endswith(
        "; the weights of 2 of 6 modules (3 in each of 2 networks) vary with the image."
    )
    for seed in (0, 1):
        folder = project.root / "data" / "evaluated" / "ca_cnn" / str(seed)
        with np.load(folder / "interventions.npz") as found:
            intact = found["intact"]
        np.savez(folder / "interventions.npz", intact=intact, frozen=intact, shuffled=intact)
        metrics = json.loads((folder / "metrics.json").read_text())
        accuracy = float((intact == project.labels[seed]).mean())
        same = {"accuracy": accuracy, "changed": 0}
        metrics["interventions"] = {"frozen": same, "shuffled": same}
        written(folder / "metrics.json", metrics)
    found = line_of_answer(project.report(settings()), "Attention")
    assert found.startswith(
        "may or may not look at the image: with the same attention weights for all images, not "
        "one of 80 answers changes"
    )  # of 40 images, too few to be sure
    networks = json.loads((project.reports / "verdict.json").read_text())["networks"]
    assert {name: one["looks_at_image"] for name, one in networks.items()} == {
        "ca_cnn": "unknown",
        "se_densenet": "yes",
    }


def test_attention_that_changes_answers_to_no_effect_is_told_from_attention_that_changes_none():
    looks = environment().get_template("answer.j2").module.looks
    none = Intervention(0.0, -0.1, 0.1, changed=0, answers=900, most_changed=0.003)
    few = Intervention(-0.09, -0.42, 0.24, changed=30, answers=900, most_changed=0.05)
    assert looks(Looking("no", none, none, False)) == (
        "does not look at the image: with the same attention weights for all images, not one of "
        "900 answers changes"
    )
    assert looks(Looking("no", few, few, False)) == (
        "makes little or no use of the image: with the same attention weights for all images, "
        "accuracy changes by +0.09 points (-0.24 to +0.42)"
    )


def test_an_architecture_is_judged_against_each_of_its_baselines(
    project: Project, capsys: pytest.CaptureFixture[str]
):
    content = settings().model_dump()
    content["architectures"]["densenet"] = content["architectures"]["cnn"] | {
        "attention": "static",
        "baseline": "cnn",
    }
    content["architectures"]["ca_cnn"]["baseline"] = ["cnn", "densenet"]
    content["architectures"]["se_densenet"]["baseline"] = None
    text = project.report(load.check(content))
    assert first_paragraph(text).startswith("**Does channel attention pay for `ca_cnn` on digits?")
    against = (
        "- **Does channel attention pay against a learnt weight for each channel, blind to the "
        "image, for `ca_cnn` on digits?"
    )
    (line,) = [line for line in text.splitlines() if line.startswith(against)]
    assert "The gain in test accuracy over `densenet` is " in line
    assert "looks at the image" not in line  # that has been said
    rows = [row for row in tables(text)[0] if row[0].startswith("ca_cnn")]
    assert [row[2].rpartition(" against ")[2] for row in rows] == ["cnn", "densenet"]
    found = json.loads((project.reports / "verdict.json").read_text())["pairs"]
    assert [(pair["model"], pair["baseline"]) for pair in found] == [
        ("ca_cnn", "cnn"),
        ("ca_cnn", "densenet"),
        ("densenet", "cnn"),
    ]
    gains = [np.mean(pair["gain_by_seed"]) for pair in found]
    assert gains[0] == pytest.approx(gains[1] + gains[2])
    print_summary(project.reports)
    printed = capsys.readouterr().out.splitlines()
    assert [line for line in printed if line.startswith("  - densenet ")]


def test_interventions_of_another_evaluation_are_refused(project: Project):
    folder = project.root / "data" / "evaluated" / "ca_cnn" / "0"
    wrong = (project.labels[0] + 1) % len(CLASSES)
    np.savez(folder / "interventions.npz", intact=wrong, frozen=wrong, shuffled=wrong)
    with pytest.raises(InputError, match=r"interventions.npz: is not of metrics.json beside it"):
        project.report(settings())


def test_candidate_without_a_baseline_gets_its_accuracy_and_every_pair(project: Project):
    text = project.report(settings(model="cnn"))
    mean = np.mean([project.accuracy("cnn", seed) for seed in (0, 1)])
    assert f"`cnn` classifies {mean:.2f} %" in first_paragraph(text)
    pairs = [line for line in text.splitlines() if line.startswith("- **Does ")]
    assert [line.partition("` on digits?")[0] for line in pairs] == [
        "- **Does channel attention pay for `ca_cnn",
        "- **Does channel attention pay for `se_densenet",
    ]
    for line in pairs:
        assert re.search(r"\*\* The gain .* It has .* The attention .* narrow the interval", line)
    metrics = json.loads((project.reports / "metrics.json").read_text())
    assert metrics["accuracy"] == pytest.approx(mean)
    assert "difference" not in metrics
    curves = pd.read_csv(project.reports / "plots" / "learning_curves.csv")
    assert curves["candidate"].equals(curves["baseline"])


def test_a_single_seed_has_no_standard_deviation(project: Project):
    text = project.report(settings(seeds=[0]))
    assert "±" not in tables(text)[0][1][1]
    assert "Undecided, as always with a single seed.**" in first_paragraph(text)
    assert beside_the_answer(text)[0].startswith("- **There is a single seed**")
    assert "1 seeds" not in text
    assert "mean over seeds" not in text
    assert not re.search(r"\bnan\b", text)
    assert "accuracy_sd" not in json.loads((project.reports / "metrics.json").read_text())


def test_a_pair_that_differs_in_more_than_attention_is_named(
    project: Project, reported: tuple[Project, str]
):
    assert "differ in more than one" not in reported[1]
    content = settings().model_dump()
    content["architectures"]["ca_cnn"] |= {"activation": "mish", "reduction": 4}
    text = project.report(load.check(content))
    found = first_paragraph(text)
    assert found.startswith("**Does `ca_cnn` pay against `cnn` on digits? ")
    assert "; but the two differ in more than one thing (`attention`, `activation`).**" in found
    assert beside_the_answer(text)[0].startswith(
        "- **`ca_cnn` and `cnn` differ in more than one thing (`attention`, `activation`)**, so"
    )


@pytest.mark.parametrize(
    ("attention", "name"),
    [
        ("channel", "channel attention"),
        ("static", "a learnt weight for each channel, blind to the image,"),
        ("spatial", "spatial attention"),
        ("cbam", "channel and spatial attention (CBAM)"),
        ("eca", "efficient channel attention (ECA)"),
        ("coordinate", "coordinate attention"),
        ("simam", "SimAM"),
        ("self_attention", "multi-head self-attention"),
    ],
)
def test_every_attention_is_named(project: Project, attention: str, name: str):
    content = settings().model_dump()
    content["architectures"]["ca_cnn"]["attention"] = attention
    text = project.report(load.check(content))
    assert first_paragraph(text).startswith(f"**Does {name} pay for `ca_cnn` on digits?")


def test_self_attention_is_not_said_to_look_at_the_image(project: Project):
    content = settings().model_dump()
    content["architectures"]["ca_cnn"]["attention"] = "self_attention"
    text = project.report(load.check(content))
    assert line_of_answer(text, "Attention").startswith(
        "may or may not look at the image: with attention to all positions alike, accuracy falls by"
    )
    assert "`ca_cnn`: with attention to all positions alike, accuracy falls by " in text
    assert "Whether the same pattern for all images would do is not tested." in text
    verdict = json.loads((project.reports / "verdict.json").read_text())
    assert verdict["networks"]["ca_cnn"]["looks_at_image"] == "unknown"


def test_one_attention_against_another_names_both(project: Project):
    content = settings().model_dump()
    content["architectures"]["cnn"]["attention"] = "spatial"
    text = project.report(load.check(content))
    question = "**Does channel attention pay against spatial attention for `ca_cnn` on digits?"
    assert first_paragraph(text).startswith(question)


def test_networks_of_a_library_may_differ_in_more_than_attention(project: Project):
    content = settings().model_dump()
    library = {"family": "timm", "small_inputs": True, "baseline": None}
    content["architectures"]["cnn"] = library | {"name": "resnet18"}
    content["architectures"]["ca_cnn"] = library | {"name": "seresnet18", "baseline": "cnn"}
    text = project.report(load.check(content))
    assert first_paragraph(text).startswith("**Does `ca_cnn` pay against `cnn` on digits?")
    found = "**`ca_cnn` and `cnn` may differ in more than attention (`name`)**"
    assert [line for line in beside_the_answer(text) if found in line]


def never_learnt(project: Project, *models: str) -> None:
    """Let `models` name the first class every time."""
    for model in models:
        for seed in (0, 1):
            folder = project.root / "data" / "evaluated" / model / str(seed)
            logits = np.zeros((TEST_IMAGES, len(CLASSES)), np.float32)
            np.save(folder / "logits.npy", logits)
            metrics = json.loads((folder / "metrics.json").read_text())
            found = made_evaluation(logits, project.labels[0], CLASSES, splits=metrics["splits"])
            records.write(folder / "metrics.json", found)


def test_of_a_network_that_has_learnt_nothing_nothing_is_said(project: Project):
    never_learnt(project, "cnn")
    text = project.report(settings())
    assert first_paragraph(text) == (
        "**Does channel attention pay for `ca_cnn` on digits? No answer: `cnn` does "
        "no better than guessing.**"
    )
    assert line_of_answer(text, "Next step").startswith("train `cnn` for longer")
    (found,) = beside_the_answer(text)
    assert found.startswith("- **`cnn` does no better than guessing**: its test accuracy is 25.00")
    # classes are equally frequent
    assert "predicting the most frequent class every time classifies 25.0 % of" in found
    verdicts = {row[0]: row[3] for row in tables(text)[0][1:]}
    assert verdicts["ca_cnn (candidate)"] == "undecided"
    reasons = {row[0]: row[-1] for row in tables(section(text, "## How sure"))[0]}
    assert reasons["ca_cnn - cnn"] == "networks at chance"
    rows = pd.read_csv(project.reports / "comparison.csv").set_index("model")
    assert list(rows.loc["ca_cnn", ["verdict", "reason"]]) == ["undecided", "networks at chance"]

    never_learnt(project, "ca_cnn")
    found = first_paragraph(project.report(settings()))
    assert found.endswith("No answer: `ca_cnn` and `cnn` do no better than guessing.**")


def test_two_names_for_one_network_are_found_out(project: Project):
    content = settings().model_dump()
    content["architectures"]["ca_cnn"]["attention"] = "none"
    content["architectures"]["ca_cnn"]["reduction"] = 4  # which nothing reads
    text = project.report(load.check(content))
    assert first_paragraph(text).startswith(
        "**Does `ca_cnn` pay against `cnn` on digits? Undecided, because the two have "
        "the same settings and are the same architecture.**"
    )
    assert beside_the_answer(text)[0].startswith("- **`ca_cnn` and `cnn` have the same settings**")


def test_another_strength_of_the_same_attention_is_another_network(project: Project):
    content = settings().model_dump()
    content["architectures"]["cnn"]["attention"] = "channel"
    content["architectures"]["ca_cnn"]["reduction"] = 4
    assert "same settings" not in project.report(load.check(content))


def test_balanced_accuracy_is_what_counts_where_it_is_asked_for(project: Project):
    content = settings().model_dump()
    content["report"]["judged_by"] = "balanced_accuracy"
    text = project.report(load.check(content))
    (found, _) = json.loads((project.reports / "verdict.json").read_text())["pairs"]
    assert f"The gain in balanced test accuracy over `cnn` is {found['gain']:+.2f} points" in (
        first_paragraph(text)
    )
    headings = tables(text)[0][0]
    assert headings[1:3] == ["balanced test accuracy", "of all images"]
    rows = pd.read_csv(project.reports / "comparison.csv").set_index("model")
    scores = [
        100 * balanced_accuracy_score(project.labels[0], project.logits["cnn", seed].argmax(axis=1))
        for seed in (0, 1)
    ]
    assert rows.loc["cnn", "accuracy"] == pytest.approx(np.mean(scores))


def test_accuracy_of_classes_that_differ_in_size_is_doubted_unless_it_is_balanced():
    equal = viewed(compared(), "ca_cnn")
    differing = replace(equal, unbalanced=True, support=(1200, 0, 12, 40, 400))
    balanced = Criteria(0.95, 0.5, "balanced_accuracy")
    doubted = environment().get_template("answer.j2").module.in_images
    said = "- **The largest class has 1,200 test images, the smallest 12**: accuracy says most"
    assert said in doubted(differing)
    assert "The largest class" not in doubted(equal)
    assert "The largest class" not in doubted(replace(differing, criteria=balanced))


def test_runs_of_a_seed_that_were_not_trained_alike_are_a_doubt(project: Project):
    def rewrite(model: str, seed: int, **changes: object) -> str:
        path = project.root / "data" / "trained" / model / str(seed) / "train.json"
        written(path, json.loads(path.read_text()) | changes)
        return project.report(settings())

    newer = {"python": "3", "torch": "2.1", "timm": "1.0"}
    said = "`ca_cnn` and `cnn` were not trained alike"
    text = rewrite("ca_cnn", 1, versions=newer)
    assert f"**{said}**: torch differs between runs of one seed" in text
    assert "`se_densenet` and `densenet` were not trained alike" not in text
    text = rewrite("ca_cnn", 1, versions=newer, device_name="another", threads=2)
    assert f"**{said}**: processor, threads and torch differ between runs" in text
    text = rewrite("cnn", 1, versions=newer, device_name="another", threads=2)
    assert said not in text


def test_own_images_are_called_so(project: Project):
    project.describe(name="image_folder")
    content = settings().model_dump()
    content["data"]["name"] = "image_folder"
    text = project.report(load.check(content))
    assert text.startswith("# `ca_cnn` against `cnn` on your images\n")
    assert "image\\_folder" not in text


@pytest.mark.parametrize(
    ("setting", "value", "question"),
    [
        ("activation", "mish", "Does `activation: mish` pay against `relu` for `cnn` on digits?"),
        ("dropout", 0.25, "Does `dropout: 0.25` pay against `0.5` for `cnn` on digits?"),
        ("padding", 1, "Does `padding: 1` pay against `null` for `cnn` on digits?"),
    ],
)
def test_question_follows_from_the_one_setting_that_differs(
    project: Project, setting: str, value: object, question: str
):
    content = settings().model_dump()
    content["architectures"]["cnn"] |= {"dropout": 0.5}
    content["architectures"]["ca_cnn"] = {
        **content["architectures"]["cnn"],
        setting: value,
        "baseline": "cnn",
    }
    text = project.report(load.check(content))
    assert first_paragraph(text).startswith(f"**{question}")
    assert "more than one thing" not in text


def test_what_nothing_reads_makes_no_difference():
    attending = {"attention": "channel", "reduction": 4, "heads": 2, "baseline": "b", "hidden": 8}
    plain = {"attention": "none", "reduction": 16, "heads": 4, "baseline": None, "hidden": 9}
    assert differing(attending | {"own": 1}, plain | {"their": 2}) == (
        *("attention", "hidden", "own", "their"),
    )
    assert differing(attending, attending | {"heads": 8, "baseline": None}) == ()
    in_one, in_all = ({"attention_at": blocks} for blocks in ([3], "all"))
    assert differing(attending | in_one, attending | in_all) == ("attention_at",)
    without = attending | {"attention": "none"}
    assert differing(attending | in_one, without | in_all) == ("attention",)
    assert differing(without | in_one, without | in_all) == ()
    assert differing(attending, attending | {"reduction": 8}) == ("reduction",)


@pytest.mark.parametrize(
    ("candidate", "baseline", "expected"),
    [
        ("channel", "static", ["attention_at"]),  # a placebo has a place, and squeezes nothing
        ("channel", "cbam", ["attention_at", "reduction"]),
        ("self_attention", "channel", ["attention_at"]),
        ("self_attention", "none", []),
    ],
)
def test_what_both_kinds_of_attention_read_is_another_difference(
    candidate: str, baseline: str, expected: list[str]
):
    one = {"attention": candidate, "attention_at": [3], "reduction": 4, "heads": 2}
    other = {"attention": baseline, "attention_at": "all", "reduction": 16, "heads": 4}
    assert differing(one, other) == ("attention", *expected)
    assert differing(other, one) == ("attention", *expected)


def test_groups_of_a_normalisation_count_where_both_normalise_in_groups():
    batch = {"normalisation": "batch", "norm_groups": 8}
    group = {"normalisation": "group", "norm_groups": 16}
    assert differing(batch, batch | {"norm_groups": 16}) == ()
    assert differing(group, batch) == ("normalisation",)
    assert differing(group, group | {"norm_groups": 8}) == ("norm_groups",)


def test_different_families_differ_in_what_both_have():
    one = {"family": "cnn", "activation": "relu", "hidden": 8, "attention": "none"}
    other = {"family": "densenet", "activation": "mish", "growth_rate": 12, "attention": "channel"}
    assert differing(one, other) == ("attention", "family", "activation")


def test_single_seeds_that_differ_are_the_doubt_of_an_undecided_pair():
    shown = viewed(compared(), "ca_cnn")
    one, pair = shown.candidate, shown.candidate.pairs[0]
    gain = replace(pair.result.gain, gain_by_seed=(0.25, -1.5, 2.0))
    undecided = replace(pair.result, gain=gain, judgement=Judgement("undecided", "too few seeds"))
    candidate = replace(one, pairs=(replace(pair, result=undecided, plan=None),))
    text = environment().get_template("answer.j2").module.lines(replace(shown, candidate=candidate))
    said = "seeds disagree, with gains from -1.50 to +2.00 points."
    assert line_of_answer(text, "Strongest doubt") == said


def test_doubts_of_other_pairs_do_not_hide_the_candidates_own():
    shown = answered("pays", "undecided", "yes")
    (other,) = (pair for pair in shown.pairs if pair.result.model == "se_densenet")
    confounded = replace(other, result=replace(other.result, differs_in=("attention", "growth")))
    assert confounded.result.confounded
    pairs = (*shown.candidate.pairs, confounded)
    answer = environment().get_template("answer.j2").module
    text = answer.lines(replace(shown, pairs=pairs))
    assert line_of_answer(text, "Strongest doubt").startswith("against `static_cnn`, whose weights")
    assert "se_densenet" not in text
    certainty = environment().get_template("certainty.md.j2")
    figures = {"reliability": "figures/reliability.png"}
    text = certainty.render(view=replace(shown, pairs=pairs, figures=figures))
    assert "- **`se_densenet` and `densenet` differ in more than one thing (" in text


def test_doubts_of_the_images_do_not_hide_the_candidates_own():
    shown = replace(answered("pays", "undecided", "yes"), unbalanced=True, support=(9, 99))
    text = environment().get_template("answer.j2").module.lines(shown)
    assert "- **Strongest doubt:** **The largest class has 99 test images" in text
    assert "\n- Against `static_cnn`, whose weights are blind to the image, it is undecided" in text


def test_one_image_of_a_small_class_counts_for_more_where_classes_count_the_same():
    shown = viewed(compared(), "ca_cnn")
    differing = replace(shown, support=(380, 10), test_images=390)
    one_image = environment().get_template("answer.j2").module.one_image
    assert one_image(differing).strip() == "one of 390 images is 0.26 points"
    balanced = replace(differing, criteria=Criteria(0.95, 0.5, "balanced_accuracy"))
    labels = np.repeat([0, 1], [380, 10])
    one_wrong = np.where(np.arange(390) == 389, 0, labels)
    points = 100 * (1 - balanced_accuracy_score(labels, one_wrong))
    assert one_image(balanced).strip() == (
        f"one of the 10 images of the smallest class is {points:.2g} points"
    )


def answered(outcome: Outcome, against_placebo: Outcome, looks: Looks) -> View:
    """Return what is shown of a candidate with two baselines and these findings."""
    shown = viewed(compared(), "ca_cnn")
    one, other = shown.candidate, shown.candidate.pairs[0]
    cost = Intervention(0.2, -0.1, 0.5, 3, 100, 0.08)

    def judged(outcome: Outcome, baseline: str) -> ComparedPair:
        result = replace(other.result, judgement=Judgement(outcome, None), baseline=baseline)
        attention = "static" if baseline == "static_cnn" else "none"
        return replace(other, result=result, plan=None, attentions=("channel", attention))

    pairs = (judged(outcome, "cnn"), judged(against_placebo, "static_cnn"))
    candidate = replace(one, pairs=pairs, looking=Looking(looks, cost, cost, False))
    return replace(shown, candidate=candidate)


@pytest.mark.parametrize(
    ("found", "doubt", "step"),
    [
        (
            answered("pays", "undecided", "yes"),
            "against `static_cnn`, whose weights are blind to the image, it is undecided: what "
            "gains need not be the attention.",
            "use `ca_cnn`, and compare again where images or recipe are others.",
        ),
        (
            answered("better", "does not pay", "yes"),
            "against `static_cnn`, whose weights are blind to the image, it is found not to pay: "
            "what gains need not be the attention.",
            "use `ca_cnn` where less than +0.50 points are worth its price; more seeds tell more.",
        ),
        (
            answered("pays", "pays", "no"),
            "what gains is not that it looks at the image.",
            "use `ca_cnn`, and compare again where images or recipe are others.",
        ),
        (
            answered("worse", "worse", "no"),
            "one division of the images and one recipe, and another may answer otherwise.",
            "keep `cnn`.",
        ),
    ],
)
def test_doubt_and_next_step_follow_from_what_was_found(found: View, doubt: str, step: str):
    text = environment().get_template("answer.j2").module.lines(found)
    assert line_of_answer(text, "Strongest doubt") == doubt
    assert line_of_answer(text, "Next step") == step


def test_the_answers_scope_stands_below_it_with_what_a_person_knows(project: Project):
    def scope(chosen: Settings) -> str:
        parts = project.report(chosen).split("\n\n")
        (found,) = (part for part in parts if "This holds for" in part)
        return found

    assert scope(settings()) == (
        "This holds for one split of digits and one recipe, which all seeds share; others may "
        "answer otherwise. *Pays* needs the whole interval at or above +0.50 points, the margin "
        "(`report.margin`). The intervals of all 2 pairs together hold with 95 % "
        "confidence."
    )
    assert any("`report.note` says it" in line for line in caveats(project.report(settings())))
    noted = settings().model_dump()["report"] | {"note": "six trials *each*, by validation."}
    assert scope(settings(report=noted)).endswith(
        "How the recipe was chosen: six trials \\*each\\*, by validation."
    )
