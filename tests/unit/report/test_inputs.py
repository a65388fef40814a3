"""What the report stage refuses, naming the file."""

from __future__ import annotations

import json

import numpy as np
import pytest

from pipeline.system.errors import InputError
from tests.unit.report.made_project import Project, settings, written


@pytest.mark.parametrize(
    "name",
    [
        *("explain.json", "faithfulness.csv", "faithfulness_areas.csv", "empty_images.csv"),
        *("randomisation.csv", "grad_cam.npy", "cams.png", "faithfulness_curves.svg"),
    ],
)
def test_half_an_explanation_is_refused(project: Project, name: str):
    (project.reports / "figures" / "cnn" / name).unlink()
    with pytest.raises(InputError, match=rf"cnn/{name}: no such file; explain cnn first"):
        project.report(settings())


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("explain.json", "[]"),
        ("explain.json", "{"),
        ("faithfulness.csv", ""),
        ("randomisation.csv", "heatmap\n"),
        ("attention_variation.csv", "module,kind\n"),
        ("grad_cam.npy", ""),
    ],
)
def test_a_corrupt_explanation_is_refused(project: Project, name: str, content: str):
    (project.reports / "figures" / "ca_cnn" / name).write_text(content)
    with pytest.raises(InputError, match=rf"ca_cnn/{name}: can't be read"):
        project.report(settings())


def test_heatmaps_of_other_images_are_refused(project: Project):
    np.save(project.reports / "figures" / "cnn" / "grad_cam.npy", np.zeros((3, 2, 2)))
    with pytest.raises(InputError, match=r"cnn/grad_cam.npy: expected a map for each of 40 test"):
        project.report(settings())


@pytest.mark.parametrize(
    ("missing", "name"),
    [("trained/cnn/1/history.csv", "history.csv"), ("evaluated/cnn/0/logits.npy", "logits.npy")],
)
def test_a_missing_or_corrupt_result_is_named(project: Project, missing: str, name: str):
    path = project.root / "data" / missing
    path.write_bytes(b"")
    with pytest.raises(InputError, match=name):
        project.report(settings())
    path.unlink()
    with pytest.raises(InputError, match=f"{name}: no such file"):
        project.report(settings())


@pytest.mark.parametrize(
    ("logits", "shape"), [(np.zeros((7, 4)), r"\(7, 4\)"), (np.full((40, 4), np.nan), r"\(40, 4\)")]
)
def test_logits_of_other_images_or_no_numbers_are_refused(
    project: Project, logits: np.ndarray, shape: str
):
    np.save(project.root / "data/evaluated/ca_cnn/1/logits.npy", logits)
    with pytest.raises(InputError, match=rf"ca_cnn/1/logits.npy: .* each of 40 .* {shape}"):
        project.report(settings())


def test_logits_that_contradict_their_metrics_are_refused(project: Project):
    logits = project.logits["ca_cnn", 1]
    np.save(project.root / "data/evaluated/ca_cnn/1/logits.npy", -logits)
    with pytest.raises(InputError, match=r"its accuracy is not that of logits\.npy"):
        project.report(settings())


def test_timings_and_evaluations_of_other_splits_are_refused(project: Project):
    index = project.splits / "index.csv"
    index.write_text(index.read_text().replace("made", "made elsewhere"))
    with pytest.raises(InputError, match=r"timings\.json: is of other splits .*; measure again"):
        project.report(settings())
    project.make_timings()
    with pytest.raises(InputError, match=r"metrics\.json: is of other splits"):
        project.report(settings())


@pytest.mark.parametrize(
    ("name", "again"),
    [
        ("data/measured/timings.json", "measure again"),
        ("data/evaluated/cnn/0/metrics.json", "evaluate cnn again"),
        ("reports/figures/cnn/explain.json", "explain cnn again"),
        ("data/splits.json", "run split again"),
    ],
)
def test_what_was_made_under_other_settings_is_refused(project: Project, name: str, again: str):
    path = project.root / name
    content = json.loads(path.read_text()) if path.exists() else {}
    made_from = {"settings": {"compute.threads": 4711}, "code": {}, "inputs": {}}
    written(path, content | {"made_from": made_from})
    said = "was made under other settings than those of params.yaml: compute.threads: 4711, now 1"
    with pytest.raises(InputError, match=rf"{path.name}: {said}; {again}"):
        project.report(settings())


def test_history_cut_short_is_refused(project: Project):
    path = project.root / "data/trained/cnn/0/history.csv"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))
    with pytest.raises(InputError, match=r"cnn/0/history\.csv: (is not of|can't be read)"):
        project.report(settings())


@pytest.mark.parametrize("epoch", ["-1", "999999999999999999999999999999", "1.5", "2"])
def test_history_whose_epochs_are_not_counted_from_one_is_refused(project: Project, epoch: str):
    path = project.root / "data/trained/cnn/0/history.csv"
    heading, first, *others = path.read_text().splitlines(keepends=True)
    path.write_text("".join([heading, epoch + first[first.index(",") :], *others]))
    with pytest.raises(InputError, match=r"cnn/0/history\.csv: (is not of|can't be read)"):
        project.report(settings())


@pytest.mark.parametrize("content", ["{}", "[]", '{"epochs": 5}'])
@pytest.mark.parametrize(
    "name",
    ["trained/cnn/0/train.json", "evaluated/cnn/0/metrics.json", "measured/timings.json"],
)
def test_record_without_what_the_report_needs_is_refused(project: Project, name: str, content: str):
    (project.root / "data" / name).write_text(content)
    with pytest.raises(InputError, match=name):
        project.report(settings())


def test_history_of_another_run_is_refused(project: Project):
    trained = project.root / "data" / "trained" / "cnn"
    (trained / "0" / "history.csv").write_bytes((trained / "1" / "history.csv").read_bytes())
    said = r"cnn/0/history.csv: its best epoch is not that of train.json; train cnn again"
    with pytest.raises(InputError, match=said):
        project.report(settings())
