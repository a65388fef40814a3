"""The sections on accuracy, ensembles and costs."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import accuracy_score, f1_score, log_loss

from pipeline.data import arrays
from pipeline.settings import load
from tests.unit.made_records import made_timings
from tests.unit.report.made_project import (
    MODELS,
    Project,
    ensemble_probabilities,
    first_paragraph,
    line_of_answer,
    section,
    settings,
    table_under,
    tables,
    written,
)


def test_report_holds_its_tables_each_with_the_right_cells(reported: tuple[Project, str]):
    _, text = reported
    comparison, together, costs, per_class, kept, *others = tables(text)
    *compared, pairs, exact, calibration, counts, origin = others
    assert [len(comparison), len(comparison[0])] == [1 + 4, 9]
    assert [len(together), len(together[0])] == [1 + 5, 7]
    assert [len(costs), len(costs[0])] == [1 + 4, 7]
    assert [len(per_class), len(per_class[0])] == [5, 2 + 4]
    assert [len(kept), len(kept[0])] == [1 + 4, 4]
    assert [len(table[0]) for table in compared] == [5] * 4
    assert [len(pairs), len(pairs[0])] == [1 + 2, 8]
    assert [len(exact), len(exact[0])] == [1 + 2 * 2, 5]
    assert [len(calibration), len(calibration[0])] == [1 + 4 + 5, 4]
    assert [len(counts), len(counts[0])] == [6, 4]
    assert {len(row) for row in origin} == {2}
    for table in tables(text):
        assert {len(row) for row in table} == {len(table[0])}


def test_numbers_are_those_of_scikit_learn(reported: tuple[Project, str]):
    project, text = reported
    table = pd.read_csv(project.reports / "comparison.csv").set_index("model")
    for model in MODELS:
        accuracies = [project.accuracy(model, seed) for seed in (0, 1)]
        row = table.loc[model]
        assert row["accuracy"] == pytest.approx(np.mean(accuracies))
        # of two values, the sample standard deviation is their distance by the root of 2
        expected = abs(accuracies[0] - accuracies[1]) / 2**0.5
        assert row["accuracy_sd"] == pytest.approx(expected, abs=1e-4)
        losses = [
            log_loss(project.labels[0], np.exp(z) / np.exp(z).sum(axis=1, keepdims=True))
            for z in (project.logits[model, seed].astype(float) for seed in (0, 1))
        ]
        assert row["nll"] == pytest.approx(np.mean(losses), rel=1e-4)
        # 5 epochs of 100 images, of which 50 are learnt from in a second
        assert row["training_seconds"] == 5 * 100 / 50
    assert table.loc["ca_cnn", "difference"] == pytest.approx(
        table.loc["ca_cnn", "accuracy"] - table.loc["cnn", "accuracy"], abs=1e-3
    )
    assert f"{table.loc['ca_cnn', 'difference']:+.2f} points" in first_paragraph(text)

    per_class = table_under(text, "Classes")
    scores = [
        f1_score(project.labels[0], project.logits["cnn", seed].argmax(axis=1), average=None)
        for seed in (0, 1)
    ]
    assert [float(row[2]) for row in per_class[1:]] == pytest.approx(
        100 * np.mean(scores, axis=0), abs=0.051
    )


def ensembles(text: str) -> list[list[str]]:
    """The table of ensembles: the first whose second heading but one is their gain."""
    return next(rows for rows in tables(text) if "gain over its members" in rows[0])


def test_ensembles_have_a_table_of_their_own(reported: tuple[Project, str]):
    _, text = reported
    beneath = [f"{model}, 2 seeds" for model in MODELS] + ["4 architectures"]
    assert [row[0] for row in ensembles(text)[1:]] == beneath


def test_ensemble_over_seeds_has_scipys_probabilities_and_the_sum_of_costs(
    reported: tuple[Project, str],
):
    project, text = reported
    table = pd.read_csv(project.reports / "comparison.csv").set_index("model")
    for model in MODELS:
        probabilities = ensemble_probabilities(project, [(model, 0), (model, 1)])
        row = table.loc[f"ensemble: {model}, 2 seeds"]
        accuracy = 100 * accuracy_score(project.labels[0], probabilities.argmax(axis=1))
        assert row["accuracy"] == pytest.approx(accuracy)
        assert row["nll"] == pytest.approx(log_loss(project.labels[0], probabilities), rel=1e-4)
        gain = accuracy - np.mean([project.accuracy(model, seed) for seed in (0, 1)])
        assert row["gain"] == pytest.approx(gain, abs=1e-4)
        assert [f"{gain:+.2f}"] == [
            each[2] for each in ensembles(text) if each[0] == f"{model}, 2 seeds"
        ]
        assert row["kind"] == "ensemble"
        assert row["members"] == f"{model}-0 {model}-1"
        assert row["runs"] == 1
        for cost in ("parameters", "macs", "latency_ms"):
            assert row[cost] == pytest.approx(2 * table.loc[model, cost])
        assert row["throughput"] == pytest.approx(table.loc[model, "throughput"] / 2)
        assert row["training_throughput"] == table.loc[model, "training_throughput"] / 2
        assert row["training_seconds"] == 2 * table.loc[model, "training_seconds"]
        for memory in ("inference_memory", "training_memory"):
            assert row[memory] == table.loc[model, memory]
    assert (table.loc[MODELS, "kind"] == "architecture").all()


def test_ensemble_over_architectures_is_made_for_each_seed(reported: tuple[Project, str]):
    project, _ = reported
    table = pd.read_csv(project.reports / "comparison.csv").set_index("model")
    answers = [
        ensemble_probabilities(project, [(model, seed) for model in MODELS]).argmax(axis=1)
        for seed in (0, 1)
    ]
    accuracies = [100 * accuracy_score(project.labels[0], found) for found in answers]
    row = table.loc["ensemble: 4 architectures"]
    assert row["runs"] == 2
    assert row["accuracy"] == pytest.approx(np.mean(accuracies))
    assert row["accuracy_sd"] == pytest.approx(np.std(accuracies, ddof=1), abs=1e-4)
    assert row["members"] == " ".join(MODELS)
    assert row["parameters"] == table.loc[MODELS, "parameters"].sum()
    assert row["latency_ms"] == pytest.approx(table.loc[MODELS, "latency_ms"].sum())
    assert row["training_seconds"] == table.loc[MODELS, "training_seconds"].sum()
    assert row["gain"] == pytest.approx(
        np.mean(accuracies) - table.loc[MODELS, "accuracy"].mean(), abs=1e-3
    )


def test_nothing_is_no_ensemble(project: Project):
    one_seed = ensembles(project.report(settings(seeds=[0])))
    assert [row[0] for row in one_seed[1:]] == ["4 architectures"]
    assert "±" not in one_seed[1][1]

    content = settings(model="cnn").model_dump()
    content["architectures"] = {"cnn": content["architectures"]["cnn"]}
    one_architecture = ensembles(project.report(load.check(content)))
    assert [row[0] for row in one_architecture[1:]] == ["cnn, 2 seeds"]

    content = settings().model_dump()
    content["report"]["ensembles"] = []
    text = project.report(load.check(content))
    assert "nsemble" not in text.partition("<summary>params.yaml")[0]


def test_each_pair_has_a_sentence_on_its_costs(reported: tuple[Project, str]):
    _, text = reported
    found = section(text, "## Cost")
    assert (
        "Compared with `cnn`, `ca_cnn` needs 2.0 % more parameters, no more MACs, 25 % more "
        "latency (25 % more to 25 % more), no more memory in inference and no more memory in "
        "training, for +2.50 points of test accuracy (undecided)."
    ) in found
    assert "There is no measurable difference in training time (no more to no more)." in found
    assert "The Pareto front (no other architecture is at least as cheap" in found


def write_timings(project: Project, ca_cnn: list[float], others: float = 0.0) -> None:
    """Let one image take 1 ms in every round, but `ca_cnn` so long."""
    splits = arrays.read(project.splits).fingerprint
    content = made_timings(dict.fromkeys(MODELS, 1.0), others, splits).model_dump()
    content["architectures"]["ca_cnn"]["latency_ms"] = ca_cnn
    written(project.root / "data" / "measured" / "timings.json", content)


def test_scattered_rounds_are_called_so_and_stand_with_how_much(project: Project):
    write_timings(project, [0.8, 1.25, 0.8, 1.25, 1.0, 0.7, 1.3, 0.9, 1.1])
    text = project.report(settings())
    assert (
        "There is no measurable difference in latency (20 % less to 25 % more; the rounds scatter "
        "too much to show a difference of 5 %)."
    ) in section(text, "## Cost")
    assert "no measurable difference in latency." in line_of_answer(text, "Price")
    # all cost the same, so the most accurate architecture has the front for itself
    assert "by latency" not in section(text, "## Cost").partition("ca_cnn` by")[2]


def test_one_disturbed_round_hides_no_difference(project: Project):
    write_timings(project, [1.05, 1.06, 1.05, 1.04, 9.0, 1.05, 1.06, 1.05, 1.05])
    text = project.report(settings())
    assert "5.0 % more latency (5.0 % more to 6.0 % more)" in section(text, "## Cost")
    assert "5.0 % more latency." in line_of_answer(text, "Price")


def test_busy_machine_is_named_with_the_command_that_measures_again(project: Project):
    write_timings(project, [1.25] * 9, others=0.43)
    text = project.report(settings())
    assert (
        "**Other processes took 43 % of the processor time while latency and throughput were "
        "measured**"
    ) in section(text, "## Cost")
    assert "`dvc repro --force --single-item measure`" in section(text, "## Cost")
    assert line_of_answer(text, "Price").endswith(
        " parameters, latency not compared (the machine was busy)."
    )
    for claim in (" 25 %", "no measurable difference", "by latency", "training time ("):
        assert claim not in section(text, "## Cost")
    write_timings(project, [1.25] * 9, others=0.04)
    text = project.report(settings())
    assert "busy" not in text.partition("<summary>params.yaml")[0]
    assert "and 25 % more latency." in line_of_answer(text, "Price")
