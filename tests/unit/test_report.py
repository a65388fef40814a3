from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import pandas as pd
import pytest
from markdown_it import MarkdownIt
from matplotlib.figure import Figure
from PIL import Image
from rich.console import Console
from scipy.special import softmax
from scipy.stats import binomtest
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score, log_loss, recall_score

from pipeline.commands.models import print_architectures
from pipeline.comparison.compare import confounders
from pipeline.comparison.design import REPEATED
from pipeline.comparison.runs import read_runs
from pipeline.data import arrays
from pipeline.figures import galleries
from pipeline.figures.learning_curves import draw_learning_curves
from pipeline.report import markdown
from pipeline.report.terminal import ensembles_table, print_summary, summary_table
from pipeline.settings import load, presets, schema
from pipeline.stages import report
from pipeline.storage import records
from pipeline.system import formats, provenance
from pipeline.system.errors import InputError
from tests.unit.made_records import (
    made_evaluation,
    made_explanation,
    made_splits,
    made_timings,
    made_training,
)

ROOT = Path(__file__).parents[2]
CLASSES = ["cat", "dog | wolf", "<b>bird`", "a_b $c$ *d* [e]"]
MODELS = ["cnn", "ca_cnn", "densenet", "se_densenet"]
TEST_IMAGES, CHANNELS = 40, 3

# Grad-CAM beats chance on both curves, and the centre by deletion alone; LayerCAM beats neither.
# The intervals of the areas overlap throughout: it is the differences, image by image, that count.
AGAINST = "random_difference,random_low,random_high,centre_difference,centre_low,centre_high"
FAITHFULNESS = f"""heatmap,curve,area,low,high,images,{AGAINST}
grad_cam,deletion,0.10,0.00,0.40,9,-0.20,-0.25,-0.15,-0.10,-0.15,-0.05
grad_cam,insertion,0.80,0.20,0.85,9,0.40,0.30,0.50,0.00,-0.05,0.05
layer_cam,deletion,0.30,0.25,0.35,9,0.00,-0.05,0.05,0.10,0.05,0.15
layer_cam,insertion,0.40,0.35,0.45,9,0.00,-0.05,0.05,-0.40,-0.50,-0.30
strongest_channel,deletion,0.30,0.25,0.35,9,0.00,-0.05,0.05,0.10,0.05,0.15
strongest_channel,insertion,0.30,0.25,0.35,9,-0.10,-0.15,0.05,-0.50,-0.60,-0.40
random,deletion,0.30,0.25,0.35,9,,,,,,
random,insertion,0.40,0.35,0.45,9,,,,,,
centre,deletion,0.20,0.15,0.24,9,,,,,,
centre,insertion,0.80,0.75,0.85,9,,,,,,
"""
# With all weights random Grad-CAM is another map; LayerCAM is not.
RANDOMISATION = """heatmap,randomised,rank_correlation,low,high,images
grad_cam,last layer,0.99,0.98,1.00,9
layer_cam,last layer,0.99,0.98,1.00,9
grad_cam,all layers,0.10,0.05,0.15,9
layer_cam,all layers,0.90,0.85,0.95,9
"""
COLUMNS = "kind,weights,mean,sd_between,sd_over_images,share_by_class,constant,share_by_chance"
VARIATION = f"""module,{COLUMNS}
block1.attention,channel,8,0.5,0.0,0.0001,0.1,True,0.03
block2.attention,channel,8,0.5,0.1,0.1,0.25,False,0.03
block3.attention,channel,8,0.5,0.1,0.1,0.75,False,0.03
"""


def settings(**changes: Any) -> schema.Settings:
    content = presets.values("digits") | {
        "model": "ca_cnn",
        "seeds": [0, 1],
    }
    content["data"]["image_size"] = 8
    content["report"] = {"confidence": 0.95, "resamples": 200, "margin": 0.5, "seed": 0}
    content["report"]["ensembles"] = ["seeds", "architectures"]
    return load.check(content | changes)


def cross_validated() -> schema.Settings:
    """Return settings of a cross-validation over two folds."""
    content = settings().model_dump()
    content["split"]["folds"] = 2
    return load.check(content)


def written(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content) + "\n")


def into_splits(count: int) -> dict[str, list[str]]:
    """Return the index's columns of a division: 40 test images."""
    training = count - TEST_IMAGES - 10
    return {"split": ["train"] * training + ["validation"] * 10 + ["test"] * TEST_IMAGES}


def into_folds(count: int) -> dict[str, list[str]]:
    """Return the index's columns of a division: fold 0 has 48 test images, fold 1 the others."""
    rest = count - 48
    fold = ["0"] * 48 + ["1"] * rest
    first = ["test"] * 48 + ["train"] * (rest - 8) + ["validation"] * 8
    second = ["train"] * 40 + ["validation"] * 8 + ["test"] * rest
    return {"fold": fold, "run_0": first, "run_1": second}


class Project:
    """A folder with made-up outputs of all stages before the report."""

    def __init__(self, root: Path, divide: Callable[[int], dict[str, list[str]]]) -> None:
        self.root = root
        self.splits, self.reports = root / "data" / "splits", root / "reports"
        self.params = root / "params.yaml"
        self.logits: dict[tuple[str, int], np.ndarray] = {}
        generator = np.random.default_rng(0)
        self.make_splits(generator, divide)
        self.make_timings()
        for model in MODELS:
            for seed in (0, 1):
                self.make_run(model, seed, generator)
            self.make_figures(model)
        self.params.write_text(presets.text("digits"))

    def make_splits(
        self, generator: np.random.Generator, divide: Callable[[int], dict[str, list[str]]]
    ) -> None:
        self.splits.mkdir(parents=True)
        count = 2 * TEST_IMAGES
        labels = np.arange(count) % len(CLASSES)
        images = generator.integers(0, 256, (count, 8, 8, CHANNELS), dtype=np.uint8)
        np.save(self.splits / "images.npy", images)
        np.save(self.splits / "labels.npy", labels)
        names = [CLASSES[k] for k in labels]
        columns = divide(count)
        index = pd.DataFrame({"id": np.arange(count), **columns, "class": names, "origin": "made"})
        index.to_csv(self.splits / "index.csv", index=False)
        folds = len(columns) - 1 if "fold" in columns else None
        by_run = [columns["split"]] * 2 if folds is None else [*columns.values()][1:]
        self.labels = [labels[np.array(split) == "test"] for split in by_run]
        groups = (
            {name: np.array(columns["split"]) == name for name in arrays.SPLITS}
            if (folds is None)
            else {f"fold {k}": np.array(columns["fold"]) == str(k) for k in range(folds)}
        )
        self.counts = {
            group: {k: int((member & (np.array(names) == k)).sum()) for k in CLASSES}
            for group, member in groups.items()
        }
        own = [[0.5 + 0.1 * k] * CHANNELS for k in range(folds or 0)]
        changes = {"counts": self.counts, "rejected": 3, "folds": folds}
        changes |= {"mean": own, "std": own} if folds else {}
        description = made_splits(CLASSES, 8, CHANNELS, **changes)
        records.write(self.splits / "dataset.json", description)
        written(self.splits / "rejected.csv", "path,reason\n")

    def describe(self, **changes: Any) -> None:
        """Change ``dataset.json``, and let the evaluations be of the splits with this change."""
        path = self.splits / "dataset.json"
        written(path, json.loads(path.read_text()) | changes)
        fingerprint = {"splits": arrays.read(self.splits).fingerprint}
        for path in (self.root / "data" / "evaluated").rglob("metrics.json"):
            written(path, json.loads(path.read_text()) | fingerprint)

    def make_timings(self) -> None:
        folder = self.root / "data" / "measured"
        folder.mkdir(parents=True)
        timings = made_timings({model: 1.25 if "_" in model else 1.0 for model in MODELS})
        records.write(folder / "timings.json", timings)

    def make_run(self, model: str, seed: int, generator: np.random.Generator) -> None:
        trained = self.root / "data" / "trained" / model / str(seed)
        evaluated = self.root / "data" / "evaluated" / model / str(seed)
        epochs = np.arange(1, 6)
        falling = 2 / epochs + 0.1 * generator.random(5)
        history = {"epoch": epochs, "train_loss": falling, "train_accuracy": 1 - falling / 3}
        history |= {"validation_loss": falling, "validation_accuracy": 1 - falling / 3}
        history |= {"learning_rate": 0.001, "seconds": 2.0 + seed}
        trained.mkdir(parents=True)
        pd.DataFrame(history).to_csv(trained / "history.csv", index=False)
        records.write(trained / "train.json", made_training(model=model, seed=seed))

        labels = self.labels[seed]
        logits = generator.normal(size=(len(labels), len(CLASSES))).astype(np.float32)
        logits[np.arange(len(labels)), labels] += 2
        self.logits[model, seed] = logits
        evaluated.mkdir(parents=True)
        np.save(evaluated / "logits.npy", logits)
        changes = {"parameters": 1000 if "_" not in model else 1020}
        changes |= {"splits": arrays.read(self.splits).fingerprint}
        metrics = made_evaluation(logits, labels, CLASSES, **changes)
        records.write(evaluated / "metrics.json", metrics)

    def make_figures(self, model: str) -> None:
        folder = self.reports / "figures" / model
        folder.mkdir(parents=True)
        names = ["feature_maps", "heatmaps", "cams", "faithfulness", "randomisation"]
        names += ["attention", "attention_variation"] if "_" in model else []
        for name in names:
            Image.new("RGB", (6, 4)).save(folder / f"{name}.png")
        written(folder / "faithfulness.csv", FAITHFULNESS)
        written(folder / "randomisation.csv", RANDOMISATION)
        np.save(folder / "grad_cam.npy", np.zeros((len(self.labels[0]), 2, 2), np.float16))
        modules = [f"block{k}.attention" for k in (1, 2, 3)] if "_" in model else []
        if modules:
            written(folder / "attention.csv", "layer,channel,class,mean_weight\n")
            written(folder / "attention_variation.csv", VARIATION)
        explanation = made_explanation(["last layer", "all layers"], modules)
        records.write(folder / "explain.json", explanation)

    def report(self, chosen: schema.Settings) -> str:
        data = self.root / "data"
        report.run(
            chosen,
            self.splits,
            data / "trained",
            data / "evaluated",
            data / "measured",
            self.reports / "figures",
            self.reports,
            self.params,
        )
        return (self.reports / "report.md").read_text()

    def accuracy(self, model: str, seed: int) -> float:
        return 100 * accuracy_score(self.labels[seed], self.logits[model, seed].argmax(axis=1))


@pytest.fixture
def blank_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Write blank figures: most tests read what is said, and drawing takes seconds.

    Figures of many panels are not even made.
    """

    def save(figure: Any, path: Path) -> None:
        Image.new("RGB", (6, 4)).save(path)

    monkeypatch.setattr(report, "save", save)
    monkeypatch.setattr(report, "draw_samples", lambda *given: Figure())
    monkeypatch.setattr(galleries, "_draw_groups", lambda *given: Figure())


@pytest.fixture
def project(tmp_path: Path, blank_figures: None) -> Project:
    return Project(tmp_path, into_splits)


@pytest.fixture
def folds(tmp_path: Path, blank_figures: None) -> Project:
    return Project(tmp_path, into_folds)


@pytest.fixture(scope="module")
def reported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Project, str]:
    """Return a project with its report made, for tests that only read."""
    made = Project(tmp_path_factory.mktemp("project"), into_splits)
    return made, made.report(settings())


def tables(text: str) -> list[list[list[str]]]:
    """Parse the tables of a Markdown text into rows of the cells' visible text."""
    found: list[list[list[str]]] = []
    tokens = MarkdownIt("commonmark").enable("table").parse(text)
    previous = None
    for token in tokens:
        if token.type == "table_open":
            found.append([])
        elif token.type == "tr_open":
            found[-1].append([])
        elif previous in ("td_open", "th_open"):
            found[-1][-1].append("".join(child.content for child in token.children or []))
        previous = token.type
    return found


def first_paragraph(text: str) -> str:
    return text.split("\n\n")[1]


def table_under(text: str, heading: str) -> list[list[str]]:
    """Return the first table under a heading."""
    return tables(text.partition(f"# {heading}\n")[2])[0]


def beside_the_answer(text: str) -> list[str]:
    """Return what is listed between the answer and the first section."""
    return [line for line in text.partition("\n## ")[0].splitlines() if line.startswith("- **")]


def test_report_holds_its_tables_each_with_the_right_cells(reported: tuple[Project, str]):
    _, text = reported
    comparison, per_class, areas, pairs, exact, calibration, counts, origin = tables(text)
    assert [len(comparison), len(comparison[0])] == [1 + 4 + 5, 8]
    assert [len(per_class), len(per_class[0])] == [5, 2 + 4]
    assert [len(areas), len(areas[0])] == [1 + 4 * 5, 5]
    assert [len(pairs), len(pairs[0])] == [1 + 2, 6]
    assert [len(exact), len(exact[0])] == [1 + 2 * 2, 5]
    assert [len(calibration), len(calibration[0])] == [1 + 4 + 5, 4]
    assert [len(counts), len(counts[0])] == [6, 4]
    assert {len(row) for row in origin} == {2}
    for table in tables(text):
        assert {len(row) for row in table} == {len(table[0])}


def test_report_goes_from_the_answer_to_how_it_was_made(reported: tuple[Project, str]):
    _, text = reported
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == [
        "Comparison",
        "Cost",
        "Where it helps and hurts",
        "What it looks at",
        "How sure",
        "How it was made",
    ]


def test_class_names_are_shown_as_they_are(reported: tuple[Project, str]):
    project, text = reported
    per_class, counts = table_under(text, "Classes"), table_under(text, "Data")
    assert [row[0] for row in per_class[1:]] == CLASSES
    assert [row[0] for row in counts[1:]] == [*CLASSES, "all"]
    assert counts[1][1:] == [str(project.counts[s]["cat"]) for s in project.counts]


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
        assert row["training_seconds"] == 5 * (2 + 3) / 2
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


def test_first_sentence_answers_for_the_candidate_with_its_cost(reported: tuple[Project, str]):
    project, text = reported
    sentence = first_paragraph(text)
    assert sentence.startswith("**Does channel attention pay for `ca_cnn` on digits?")
    assert "95 % interval" in sentence
    assert "with 2 seeds, for 2.0 % more parameters and 25 % more latency. " in sentence
    smallest = pd.read_csv(project.reports / "comparison.csv").set_index("model")
    found = smallest.loc["ca_cnn", "smallest_detectable"]
    assert f"find a true difference of {found:.2f} points four times out of five" in sentence


def test_candidate_without_a_baseline_gets_its_accuracy_and_every_pair(project: Project):
    text = project.report(settings(model="cnn"))
    mean = np.mean([project.accuracy("cnn", seed) for seed in (0, 1)])
    assert f"`cnn` classifies {mean:.2f} %" in first_paragraph(text)
    assert "- **Does channel attention pay for `ca_cnn`" in text
    assert "- **Does channel attention pay for `se_densenet`" in text
    metrics = json.loads((project.reports / "metrics.json").read_text())
    assert metrics["accuracy"] == pytest.approx(mean)
    assert "difference" not in metrics
    curves = pd.read_csv(project.reports / "plots" / "learning_curves.csv")
    assert curves["candidate"].equals(curves["baseline"])


def test_every_link_leads_to_a_file(reported: tuple[Project, str]):
    project, text = reported
    links = [link for link in re.findall(r"\]\(([^)]+)\)", text) if "://" not in link]
    assert len(links) >= 10 + 4 * 5 + 2 * 4 + 5
    for link in links:
        assert (project.reports / unquote(link)).is_file(), link
    for path in (project.reports / "figures" / "comparison").iterdir():
        with Image.open(path) as image:
            assert (image.format, "Software" in image.info) == ("PNG", False)


def test_a_missing_explanation_is_left_out(project: Project):
    shutil.rmtree(project.reports / "figures" / "ca_cnn")
    text = project.report(settings())
    assert "figures/ca_cnn" not in text
    assert "figures/se_densenet/attention.png" in text
    shutil.rmtree(project.reports / "figures")
    text = project.report(settings())
    assert "## What it looks at" not in text
    assert "attention.png" not in text
    assert (project.reports / "figures" / "comparison" / "mistakes.png").is_file()


@pytest.mark.parametrize(
    "name", ["explain.json", "faithfulness.csv", "randomisation.csv", "grad_cam.npy", "cams.png"]
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
def test_a_torn_explanation_is_refused(project: Project, name: str, content: str):
    (project.reports / "figures" / "ca_cnn" / name).write_text(content)
    with pytest.raises(InputError, match=rf"ca_cnn/{name}: can't be read"):
        project.report(settings())


def test_heatmaps_of_other_images_are_refused(project: Project):
    np.save(project.reports / "figures" / "cnn" / "grad_cam.npy", np.zeros((3, 2, 2)))
    with pytest.raises(InputError, match=r"cnn/grad_cam.npy: expected a map for each of 40 test"):
        project.report(settings())


def test_a_single_seed_has_no_standard_deviation(project: Project):
    text = project.report(settings(seeds=[0]))
    assert "±" not in tables(text)[0][1][1]
    assert "Undecided, as it always is with a single seed:**" in first_paragraph(text)
    assert beside_the_answer(text)[0].startswith("- **There is a single seed**")
    assert "1 seeds" not in text
    assert "mean over seeds" not in text
    assert not re.search(r"\bnan\b", text)
    assert "accuracy_sd" not in json.loads((project.reports / "metrics.json").read_text())


def test_a_pair_that_differs_in_more_than_attention_is_named(
    project: Project, reported: tuple[Project, str]
):
    assert "differ in more" not in reported[1]
    content = settings().model_dump()
    content["architectures"]["ca_cnn"] |= {"activation": "mish", "reduction": 4}
    text = project.report(load.check(content))
    told = first_paragraph(text)
    assert told.startswith("**Does `ca_cnn` pay against `cnn` on digits? ")
    assert "; but the two differ in more than attention (`activation`):**" in told
    assert beside_the_answer(text)[0].startswith(
        "- **`ca_cnn` and `cnn` differ in more than attention (`activation`)**, so"
    )


@pytest.mark.parametrize(
    ("attention", "name"),
    [
        ("channel", "channel attention"),
        ("spatial", "spatial attention"),
        ("cbam", "channel and spatial attention (CBAM)"),
        ("self_attention", "multi-head self-attention"),
    ],
)
def test_every_attention_is_named(project: Project, attention: str, name: str):
    content = settings().model_dump()
    content["architectures"]["ca_cnn"]["attention"] = attention
    text = project.report(load.check(content))
    assert first_paragraph(text).startswith(f"**Does {name} pay for `ca_cnn` on digits?")


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
    told = "**`ca_cnn` and `cnn` may differ in more than attention (`name`)**"
    assert [line for line in beside_the_answer(text) if told in line]


def caveats(text: str) -> list[str]:
    section = text.partition("### Doubts")[2].partition("\n#")[0]
    return [line for line in section.splitlines() if line.startswith("- ")]


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
        "**Does channel attention pay for `ca_cnn` on digits? Nothing can be said: `cnn` has "
        "learnt little or nothing.**"
    )
    (told,) = beside_the_answer(text)[:-1]  # the last is the other pair
    assert told.startswith("- **`cnn` has learnt little or nothing**: it is right for 25.00 %")
    assert (
        "most frequent class every time is right for 25.0 %" in told
    )  # classes are equally frequent
    verdicts = {row[0]: row[3] for row in tables(text)[0][1:]}
    assert verdicts["ca_cnn (candidate)"] == "nothing learnt"
    assert verdicts["se_densenet"] != "nothing learnt"
    judged = {row[0]: row[-1] for row in tables(section(text, "## How sure"))[0]}
    assert judged["ca_cnn - cnn"] == "nothing learnt"
    rows = pd.read_csv(project.reports / "comparison.csv").set_index("model")
    assert rows.loc["ca_cnn", "verdict"] == "nothing learnt"  # the terminal prints it from here

    never_learnt(project, "ca_cnn")
    told = first_paragraph(project.report(settings()))
    assert told.endswith("Nothing can be said: `ca_cnn` and `cnn` have learnt little or nothing.**")


def test_two_names_for_one_network_are_found_out(project: Project):
    content = settings().model_dump()
    content["architectures"]["ca_cnn"]["attention"] = "none"
    content["architectures"]["ca_cnn"]["reduction"] = 4  # which nothing reads
    text = project.report(load.check(content))
    assert first_paragraph(text).startswith(
        "**Does `ca_cnn` pay against `cnn` on digits? Undecided, for the two have the same "
        "settings and are the same network:**"
    )
    assert beside_the_answer(text)[0].startswith("- **`ca_cnn` and `cnn` have the same settings**")


def test_another_strength_of_the_same_attention_is_another_network(project: Project):
    content = settings().model_dump()
    content["architectures"]["cnn"]["attention"] = "channel"
    content["architectures"]["ca_cnn"]["reduction"] = 4
    assert "same settings" not in project.report(load.check(content))


def test_training_that_was_still_improving_is_named(
    project: Project, reported: tuple[Project, str]
):
    assert not any("last epoch" in line for line in caveats(reported[1]))
    for seed in (0, 1):
        path = project.root / "data" / "trained" / "ca_cnn" / str(seed) / "train.json"
        written(path, json.loads(path.read_text()) | {"best_epoch": 5})
    (told,) = [line for line in caveats(project.report(settings())) if "last epoch" in line]
    assert "`ca_cnn`" in told


def test_confounders_ignore_what_is_under_test():
    one = {
        "attention": "channel",
        "reduction": 4,
        "heads": 2,
        "baseline": "b",
        "hidden": 8,
        "own": 1,
    }
    other = {"attention": "none", "reduction": 16, "heads": 4, "baseline": None, "hidden": 9}
    assert confounders(one, other | {"their": 2}) == ("hidden", "own", "their")


def test_confounders_of_different_families_are_what_both_have():
    one = {"family": "cnn", "activation": "relu", "hidden": 8, "attention": "none"}
    other = {"family": "densenet", "activation": "mish", "growth_rate": 12, "attention": "channel"}
    assert confounders(one, other) == ("family", "activation")


def test_plots_and_metrics_for_dvc(reported: tuple[Project, str]):
    project, _ = reported
    predictions = pd.read_csv(project.reports / "plots" / "confusion.csv")
    assert list(predictions) == ["actual", "predicted"]
    both = np.concatenate([project.logits["ca_cnn", seed].argmax(axis=1) for seed in (0, 1)])
    expected = confusion_matrix(np.tile(project.labels[0], 2), both)
    found = confusion_matrix(predictions["actual"], predictions["predicted"], labels=CLASSES)
    assert found.tolist() == expected.tolist()

    curves = pd.read_csv(project.reports / "plots" / "learning_curves.csv")
    assert list(curves) == ["epoch", "candidate", "baseline"]
    trained = project.root / "data" / "trained" / "cnn"
    runs = [pd.read_csv(trained / seed / "history.csv") for seed in ("0", "1")]
    means = (runs[0]["validation_accuracy"] + runs[1]["validation_accuracy"]) / 2
    assert curves["baseline"].tolist() == pytest.approx(means.tolist(), abs=1e-5)

    missed = pd.read_csv(project.reports / "plots" / "mistakes.csv").set_index("class")["missed"]
    recalls = [
        recall_score(project.labels[0], project.logits["ca_cnn", seed].argmax(axis=1), average=None)
        for seed in (0, 1)
    ]
    assert missed[CLASSES].tolist() == pytest.approx(100 - 100 * np.mean(recalls, axis=0))
    reliability = pd.read_csv(project.reports / "plots" / "reliability.csv")
    assert list(reliability) == ["confidence", "accuracy", "perfect"]
    assert reliability.notna().all(axis=None)
    assert reliability["confidence"].is_monotonic_increasing

    metrics = json.loads((project.reports / "metrics.json").read_text())
    assert all(isinstance(value, int | float) for value in metrics.values())
    assert metrics["parameters"] == 1020
    assert metrics["difference_low"] <= metrics["difference"] <= metrics["difference_high"]


def test_the_same_results_give_the_same_bytes(reported: tuple[Project, str], tmp_path: Path):
    project, _ = reported
    again = Project(tmp_path, into_splits)
    again.report(settings())

    def outputs(folder: Path) -> dict[Path, bytes]:
        found = [path for path in folder.rglob("*") if path.is_file()]
        return {path.relative_to(folder): path.read_bytes() for path in found}

    assert outputs(again.reports) == outputs(project.reports)


def test_report_leaves_the_explanations_alone(project: Project):
    before = sorted(path for path in project.reports.rglob("*") if path.is_file())
    project.report(settings())
    after = {path for path in project.reports.rglob("*") if path.is_file()}
    assert set(before) < after
    assert not [path for path in after if "incomplete" in str(path)]


def test_params_are_quoted_whole_even_with_fences_in_them(project: Project):
    project.params.write_text("# ```yaml\nmodel: ca_cnn\n")
    tokens = MarkdownIt("commonmark").parse(project.report(settings()))
    fences = [token.content for token in tokens if token.type == "fence"]
    assert fences[-1] == "# ```yaml\nmodel: ca_cnn\n"


@pytest.mark.parametrize(
    ("missing", "name"),
    [("trained/cnn/1/history.csv", "history.csv"), ("evaluated/cnn/0/logits.npy", "logits.npy")],
)
def test_a_missing_or_torn_result_is_named(project: Project, missing: str, name: str):
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


def test_evaluation_of_other_splits_is_refused(project: Project):
    index = project.splits / "index.csv"
    index.write_text(index.read_text().replace("made", "made elsewhere"))
    with pytest.raises(InputError, match=r"metrics\.json: is of other splits"):
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


# what the report says of classes, costs, heatmaps, attention and certainty


def section(text: str, heading: str) -> str:
    return text.partition(f"\n{heading}\n")[2].partition("\n## ")[0]


def test_images_gained_and_lost_are_those_that_one_network_got_right(
    reported: tuple[Project, str],
):
    project, text = reported
    right = {
        (model, seed): project.logits[model, seed].argmax(axis=1) == project.labels[seed]
        for model in ("ca_cnn", "cnn")
        for seed in (0, 1)
    }
    gained = [int((right["ca_cnn", s] & ~right["cnn", s]).sum()) for s in (0, 1)]
    lost = [int((right["cnn", s] & ~right["ca_cnn", s]).sum()) for s in (0, 1)]
    told = section(text, "## Where it helps and hurts")
    assert f"Of 40 test images, `ca_cnn` gets {np.mean(gained):.1f} right that `cnn`" in told
    assert f"and {np.mean(lost):.1f} wrong that `cnn` gets right (means over 2 seeds)" in told
    rows = tables(section(text, "## How sure"))[1]
    assert rows[0] == ["pair", "seed", "gained", "lost", "p (McNemar, exact)"]
    for seed in (0, 1):
        p = binomtest(gained[seed], gained[seed] + lost[seed]).pvalue
        told = [row for row in rows if row[:2] == ["ca_cnn - cnn", str(seed)]]
        assert told == [[*told[0][:2], str(gained[seed]), str(lost[seed]), formats.p_value(p)]]


def test_classes_that_moved_are_named_with_what_chance_would_do(reported: tuple[Project, str]):
    project, text = reported
    table = pd.read_csv(project.reports / "tables" / "class_differences.csv")
    told = section(text, "## Where it helps and hurts")
    assert "of 4 classes; roughly 0.2 would do so by chance" in told
    assert len(table) == 2 * 4


def test_costs_are_told_in_one_sentence_a_pair(reported: tuple[Project, str]):
    _, text = reported
    told = section(text, "## Cost")
    assert (
        "Against `cnn`, `ca_cnn` needs 2.0 % more parameters, no more MACs and 25 % more time for "
        "one image, and is "
    ) in told
    assert "Their time in training was not told apart: seeds differ by as much." in told
    assert "On the Pareto front of the architectures" in told


def test_heatmaps_are_held_against_chance_and_the_centre(reported: tuple[Project, str]):
    _, text = reported
    told = section(text, "## What it looks at")
    assert (
        "- `cnn`: Grad-CAM is better than chance and better than the centre by deletion alone; "
        "LayerCAM is not told apart from chance and worse than the centre."
    ) in told
    assert "Measured on 9 test images" in told
    cells = {row[0]: row[3:] for row in tables(told)[0]}
    assert cells["cnn: Grad-CAM"] == ["better", "better / even"]
    assert cells["cnn: LayerCAM"] == ["even", "worse"]
    assert cells["cnn: the centre"] == ["-", "-"]


def test_heatmap_that_survives_random_weights_is_told(reported: tuple[Project, str]):
    _, text = reported
    assert (
        "- `cnn`: Grad-CAM changes (0.10, 0.05 to 0.15), LayerCAM stays much the same (0.90, 0.85 "
        "to 0.95)."
    ) in section(text, "## What it looks at")


def test_attention_that_never_varies_is_called_a_scale_factor(reported: tuple[Project, str]):
    _, text = reported
    told = section(text, "### What attention does")
    assert (
        "`ca_cnn` (seed 0): the weights of 2 of 3 attention modules vary with the image; "
        "`block1.attention` hardly differs from image to image and is a scale factor; "
        "`block1.attention` does not even tell channels or places apart, but multiplies everything "
        "by 0.50; the class explains 25 to 75 % of the variation (3 % would be chance)."
    ) in told
    assert "`cnn` (seed 0)" not in told
    assert "1 of 3 attention modules of `ca_cnn` (seed 0) do nothing" in section(text, "### Doubts")


def test_rule_of_the_verdict_has_the_levels_of_the_settings(project: Project):
    content = settings().model_dump()
    content["report"] |= {"confidence": 0.9, "margin": 1.5}
    told = section(project.report(load.check(content)), "## How sure")
    assert "corrected for all pairs, is below 0.1." in told
    assert "lies below +1.5 points" in told
    assert "a gain that large is below 0.05:" in told


def test_what_the_experiment_could_have_shown_is_told(reported: tuple[Project, str]):
    project, text = reported
    table = pd.read_csv(project.reports / "comparison.csv").set_index("model")
    smallest = table.loc["ca_cnn", "smallest_detectable"]
    assert (
        f"with 2 seeds and 40 test images, a true difference has to be {smallest:.2f} points"
    ) in section(text, "## How sure")


def test_calibration_stands_in_the_report(reported: tuple[Project, str]):
    project, text = reported
    probabilities = softmax(
        np.concatenate([project.logits["cnn", seed] for seed in (0, 1)]).astype(float), axis=1
    )
    truth = np.eye(len(CLASSES))[np.concatenate([project.labels[seed] for seed in (0, 1)])]
    brier = ((probabilities - truth) ** 2).sum(axis=1).mean()
    (row,) = [row for row in table_under(text, "Calibration") if row[0] == "cnn"]
    assert float(row[2]) == pytest.approx(brier, abs=5.1e-5)


def test_own_images_are_called_so(project: Project):
    project.describe(name="image_folder")
    content = settings().model_dump()
    content["data"]["name"] = "image_folder"
    text = project.report(load.check(content))
    assert text.startswith("# `ca_cnn` against `cnn` on your images\n")
    assert "image\\_folder" not in text


# ensembles


def ensemble_probabilities(project: Project, members: list[tuple[str, int]]) -> np.ndarray:
    return np.mean([softmax(project.logits[run].astype(float), axis=1) for run in members], axis=0)


def test_ensembles_stand_beneath_the_architectures(reported: tuple[Project, str]):
    _, text = reported
    comparison = tables(text)[0]
    beneath = [f"ensemble: {model}, 2 seeds" for model in MODELS] + ["ensemble: 4 architectures"]
    assert [row[0] for row in comparison[5:]] == beneath
    assert all(row[2:4] == ["-", "-"] for row in comparison[5:])


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
        assert f"{gain:+.2f} for `{model}`" in text
        assert row["kind"] == "ensemble"
        assert row["members"] == f"{model}-0 {model}-1"
        assert row["runs"] == 1
        for cost in ("parameters", "macs", "latency_ms"):
            assert row[cost] == pytest.approx(2 * table.loc[model, cost])
        assert row["throughput"] == pytest.approx(table.loc[model, "throughput"] / 2)
        assert row["training_seconds"] == 5 * 2 + 5 * 3
    assert (table.loc[MODELS, "kind"] == "architecture").all()


def test_ensemble_over_architectures_is_made_for_each_seed(reported: tuple[Project, str]):
    project, _ = reported
    table = pd.read_csv(project.reports / "comparison.csv").set_index("model")
    answers = [
        ensemble_probabilities(project, [(model, seed) for model in MODELS]).argmax(axis=1)
        for seed in (0, 1)
    ]
    accuracies = [100 * accuracy_score(project.labels[0], of_seed) for of_seed in answers]
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
    one_seed = tables(project.report(settings(seeds=[0])))[0]
    assert [row[0] for row in one_seed[5:]] == ["ensemble: 4 architectures"]
    assert "±" not in one_seed[5][1]

    content = settings(model="cnn").model_dump()
    content["architectures"] = {"cnn": content["architectures"]["cnn"]}
    one_architecture = tables(project.report(load.check(content)))[0]
    assert [row[0] for row in one_architecture[2:]] == ["ensemble: cnn, 2 seeds"]

    content = settings().model_dump()
    content["report"]["ensembles"] = []
    text = project.report(load.check(content))
    assert "nsemble" not in text.partition("<summary>params.yaml")[0]


# cross-validation


def test_cross_validated_accuracy_is_that_of_all_images(folds: Project):
    text = folds.report(cross_validated())
    table = pd.read_csv(folds.reports / "comparison.csv").set_index("model")
    truth = np.concatenate(folds.labels)
    answers = {
        model: np.concatenate([folds.logits[model, fold].argmax(axis=1) for fold in (0, 1)])
        for model in MODELS
    }
    for model in MODELS:
        row = table.loc[model]
        assert row["accuracy"] == pytest.approx(100 * accuracy_score(truth, answers[model]))
        by_fold = [folds.accuracy(model, fold) for fold in (0, 1)]
        assert row["accuracy_sd"] == pytest.approx(np.std(by_fold, ddof=1), abs=1e-4)
        logits = np.concatenate([folds.logits[model, fold] for fold in (0, 1)]).astype(float)
        assert row["nll"] == pytest.approx(log_loss(truth, softmax(logits, axis=1)), rel=1e-4)
    assert table.loc["ca_cnn", "difference"] == pytest.approx(
        table.loc["ca_cnn", "accuracy"] - table.loc["cnn", "accuracy"], abs=1e-3
    )

    per_class = table_under(text, "Classes")
    assert [int(row[1]) for row in per_class[1:]] == np.bincount(truth).tolist()
    scores = 100 * f1_score(truth, answers["cnn"], average=None)
    assert [float(row[2]) for row in per_class[1:]] == pytest.approx(scores.tolist(), abs=0.051)
    predictions = pd.read_csv(folds.reports / "plots" / "confusion.csv")
    names = np.array(CLASSES)
    assert predictions["actual"].tolist() == names[truth].tolist()
    assert predictions["predicted"].tolist() == names[answers["ca_cnn"]].tolist()


def test_report_of_a_cross_validation_speaks_of_folds(folds: Project):
    text = folds.report(cross_validated())
    assert "with 2-fold cross-validation" in first_paragraph(text)
    visible = text.partition("<summary>params.yaml")[0]
    assert set(re.findall(r"[^.\n]*\bseeds?\b[^.\n]*", visible)) == {
        "There are no ensembles over seeds: in cross-validation the runs of an architecture are "
        "tested on different images"
    }
    assert [line for line in caveats(text) if "Bengio and Grandvalet" in line]
    assert [line for line in caveats(text) if "Each of 80 images is tested once" in line]
    comparison, *_, counts, origin = tables(text)
    assert [row[0] for row in comparison[5:]] == ["ensemble: 4 architectures"]
    assert counts[0] == ["class", "fold 0", "fold 1"]
    assert counts[-1] == ["all", "48", "32"]
    assert ["folds", "0, 1"] in origin
    assert "of each run's own training split" in text


def test_ensemble_of_architectures_is_made_on_each_fold(folds: Project):
    folds.report(cross_validated())
    table = pd.read_csv(folds.reports / "comparison.csv").set_index("model")
    answers = [
        ensemble_probabilities(folds, [(model, fold) for model in MODELS]).argmax(axis=1)
        for fold in (0, 1)
    ]
    expected = accuracy_score(np.concatenate(folds.labels), np.concatenate(answers))
    assert table.loc["ensemble: 4 architectures", "accuracy"] == pytest.approx(100 * expected)


def test_a_run_evaluated_on_another_fold_is_refused(folds: Project):
    evaluated = folds.root / "data" / "evaluated" / "cnn"
    shutil.copytree(evaluated / "0", evaluated / "1", dirs_exist_ok=True)
    with pytest.raises(InputError, match=r"cnn/1/logits.npy: .* each of 32 .* \(48, 4\)"):
        folds.report(cross_validated())


def test_candidate_without_a_baseline_is_cross_validated(folds: Project):
    content = cross_validated().model_dump() | {"model": "cnn"}
    sentence = first_paragraph(folds.report(load.check(content)))
    assert "of the 80 test images of digits correctly**, in 2-fold cross-validation." in sentence


# the data


def data_section(text: str) -> str:
    return text.partition("\n### Data\n")[2].partition("\n### ")[0]


def test_what_was_set_aside_is_counted_with_its_list_and_setting(
    project: Project, reported: tuple[Project, str]
):
    told = data_section(reported[1])
    assert "3 files were set aside (`data.unusable_files`): `rejected.csv` beside" in told
    project.describe(rejected=1)
    assert "1 file was set aside" in project.report(settings())
    project.describe(rejected=0)
    assert "set aside" not in data_section(project.report(settings()))


def test_exact_copies_are_told_and_make_the_accuracy_doubtful(
    project: Project, reported: tuple[Project, str]
):
    assert "copies" not in data_section(reported[1])
    found = {"groups": 2, "images": 5, "across_splits": 1, "across_classes": 0}
    project.describe(duplicates=found | {"test_images": 0})
    text = project.report(settings())
    assert (
        "5 images are exact copies of one another (groups: 2, in more than one split: 1, in "
        in (data_section(text))
    )
    assert not [line for line in beside_the_answer(text) if "duplicates.csv" in line]

    project.describe(duplicates=found | {"test_images": 3})
    text = project.report(settings())
    copied = "3 of 40 test images also lie in training or validation"
    assert f"; but {copied}:**" in first_paragraph(text)
    assert beside_the_answer(text)[0].startswith(f"- **{copied}**")


def test_copies_in_another_fold_are_told(folds: Project):
    found = {"groups": 2, "images": 4, "across_splits": 1, "across_classes": 0, "test_images": 2}
    folds.describe(duplicates=found)
    text = folds.report(cross_validated())
    assert "in more than one fold: 1" in data_section(text)
    assert "**2 of 80 test images also lie in another fold**" in beside_the_answer(text)[0]


# early stopping


def stop_early(project: Project, model: str, seed: int, epochs: int) -> None:
    folder = project.root / "data" / "trained" / model / str(seed)
    history = (folder / "history.csv").read_text().splitlines(keepends=True)
    (folder / "history.csv").write_text("".join(history[: 1 + epochs]))
    record = json.loads((folder / "train.json").read_text())
    changes = {"epochs": epochs, "best_epoch": epochs - 1, "stopped_early": True}
    written(folder / "train.json", record | changes)


def test_runs_of_different_lengths_are_reported(project: Project):
    stop_early(project, "cnn", 1, 3)
    text = project.report(settings())
    assert "Early stopping ended 1 of 8 runs, the first after epoch 3;" in text
    curves = pd.read_csv(project.reports / "plots" / "learning_curves.csv")
    assert curves["epoch"].tolist() == [1, 2, 3]
    assert curves.notna().all(axis=None)
    runs = pd.read_csv(project.reports / "tables" / "runs.csv").set_index(["model", "seed"])
    assert runs.loc[("cnn", 1), ["epochs", "stopped_early"]].tolist() == [3, True]
    assert runs.loc[("cnn", 0), ["epochs", "stopped_early"]].tolist() == [5, False]


def test_early_stopping_at_the_best_epoch_points_to_its_patience(project: Project):
    for seed in (0, 1):
        stop_early(project, "ca_cnn", seed, 3)
        path = project.root / "data" / "trained" / "ca_cnn" / str(seed) / "train.json"
        written(path, json.loads(path.read_text()) | {"best_epoch": 3})
    (told,) = [line for line in caveats(project.report(settings())) if "last epoch" in line]
    assert "`ca_cnn`: a larger `train.early_stopping` may change" in told


def test_mean_curve_ends_with_the_first_run_and_the_others_go_on(project: Project):
    stop_early(project, "cnn", 1, 3)
    architectures, labels = ["cnn"], dict(enumerate(project.labels))
    data, fingerprint = project.root / "data", arrays.read(project.splits).fingerprint
    runs = read_runs(
        data / "trained", data / "evaluated", data / "measured", architectures, labels, fingerprint
    )
    figure = draw_learning_curves(runs, {"cnn": None}, REPEATED, "cross_entropy")
    mean, *single = figure.axes[0].get_lines()
    losses = [run.history["train_loss"] for run in runs["cnn"]]
    assert mean.get_ydata() == pytest.approx((losses[0][:3] + losses[1][:3]) / 2)
    assert [len(line.get_xdata()) for line in single] == [3, 3]  # epochs 3, 4, 5
    assert single[0].get_ydata() == pytest.approx(losses[0][2:])


@pytest.mark.parametrize(
    ("loss", "labels", "shared"),
    [
        ("cross_entropy", ("loss (nats)", ""), True),
        ("mse", ("mse loss", "cross entropy (nats)"), False),
        ("my.losses.focal", ("focal loss", "cross entropy (nats)"), False),
    ],
)
def test_losses_share_a_scale_only_where_they_are_the_same(
    project: Project, loss: str, labels: tuple[str, str], shared: bool
):
    by_seed = dict(enumerate(project.labels))
    data, fingerprint = project.root / "data", arrays.read(project.splits).fingerprint
    runs = read_runs(
        data / "trained", data / "evaluated", data / "measured", ["cnn"], by_seed, fingerprint
    )
    training, validation = draw_learning_curves(runs, {"cnn": None}, REPEATED, loss).axes[:2]
    assert (training.get_ylabel(), validation.get_ylabel()) == labels
    assert training.get_shared_y_axes().joined(training, validation) == shared


# provenance


def test_commit_and_whether_the_code_was_changed(tmp_path: Path):
    def git(*arguments: str) -> str:
        identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
        command = ["git", *identity, *arguments]
        return subprocess.run(
            command, cwd=tmp_path, check=True, capture_output=True, text=True
        ).stdout.strip()

    assert provenance.commit(tmp_path) is None
    git("init", "-q")
    assert provenance.commit(tmp_path) is None  # no commit yet
    for name in ("code.py", "dvc.lock"):
        (tmp_path / name).write_text("1")
    git("add", ".")
    git("commit", "-qm", "first")
    assert provenance.commit(tmp_path) == provenance.Commit(git("rev-parse", "HEAD"), False)
    (tmp_path / "dvc.lock").write_text("2")  # a result, not code
    assert provenance.commit(tmp_path) == provenance.Commit(git("rev-parse", "HEAD"), False)
    (tmp_path / "code.py").write_text("2")
    assert provenance.commit(tmp_path) == provenance.Commit(git("rev-parse", "HEAD"), True)


# Markdown


@pytest.mark.parametrize("text", [*CLASSES, "a&amp;b", "~~x~~", "back\\slash", "1 < 2 > 0"])
def test_escaped_text_is_shown_as_it_is(text: str):
    rows = tables(markdown.table(f"| x |\n| {markdown.escape(text)} |"))[0]
    assert rows[1] == [text]


@pytest.mark.parametrize(
    ("cells", "alignment"),
    [
        (["85.46 ± 0.10", "86.98"], "--:"),
        (["-", "+0.48 (+0.06 to +0.91) against `cnn`"], "--:"),
        (["1,147,914", "11.4 M", "**45,000**", "< 0.0001", "2 s"], "--:"),
        (["pays", "-"], ":--"),
        (["50 epochs, Adam", "3"], ":--"),
    ],
)
def test_columns_of_numbers_are_set_to_the_right(cells: list[str], alignment: str):
    rules = markdown.table(
        "\n".join(["| a | b |", *(f"| 1 | {cell} |" for cell in cells)])
    ).splitlines()[1]
    assert rules == f"| :-- | {alignment} |"


# the terminal


def test_summary_fits_a_terminal_and_names_the_report(
    reported: tuple[Project, str],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
):
    project, _ = reported
    monkeypatch.setenv("COLUMNS", "80")
    print_summary(project.reports)
    printed = capsys.readouterr().out
    assert str(project.reports / "report.md") in printed
    assert str(project.reports / "report.html") in printed
    for model in MODELS:
        assert re.search(rf"^{model} ", printed, re.MULTILINE)

    for members in ("se_densenet, 2 seeds", "4 architectures"):
        assert re.search(rf"^{members} ", printed, re.MULTILINE)

    comparison = pd.read_csv(project.reports / "comparison.csv")
    console = Console(width=80)
    for kind, make in (("architecture", summary_table), ("ensemble", ensembles_table)):
        table = make(comparison[comparison["kind"] == kind])
        assert console.measure(table).maximum <= 80


def test_summary_marks_a_pair_that_differs_in_more_than_attention(
    project: Project, capsys: pytest.CaptureFixture[str]
):
    content = settings().model_dump()
    content["architectures"]["ca_cnn"]["activation"] = "mish"
    project.report(load.check(content))
    capsys.readouterr()
    print_summary(project.reports)
    printed = capsys.readouterr().out
    assert "* the two differ in more than attention" in printed
    (line,) = [line for line in printed.splitlines() if line.startswith("ca_cnn ") and "*" in line]
    assert " * " in line


def test_networks_of_a_library_are_listed_without_an_attention_of_ours(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    content = settings().model_dump()
    library = {"family": "torchvision", "name": "squeezenet1_1", "small_inputs": True}
    content["architectures"] = {"ca_cnn": content["architectures"]["cnn"], "fire": library}
    print_architectures(load.check(content), tmp_path)
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "│ fire" in line]
    assert [cell.strip() for cell in line.split("│")[2:5]] == ["torchvision", "-", "-"]


def test_summary_without_a_report_is_an_error(tmp_path: Path):
    with pytest.raises(InputError, match="make the report first"):
        print_summary(tmp_path)
