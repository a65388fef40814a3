"""A project with made-up outputs of all stages before the report, and what its report says."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from markdown_it import MarkdownIt
from scipy.special import softmax
from sklearn.metrics import accuracy_score

from pipeline.data import arrays
from pipeline.settings import load, presets, schema
from pipeline.stages import report
from pipeline.storage import records
from tests.unit.made_records import (
    AREAS,
    DIFFERENCES,
    EMPTY_IMAGES,
    WEIGHTS,
    made_evaluation,
    made_explanation,
    made_splits,
    made_timings,
    made_training,
    write_figure,
)

ROOT = Path(__file__).parents[3]
CLASSES = ["cat", "dog | wolf", "<b>bird`", "a_b $c$ *d* [e]"]
MODELS = ["cnn", "ca_cnn", "densenet", "se_densenet"]
TEST_IMAGES, CHANNELS = 40, 3
# Grad-CAM beats the random map by all measures, and the centre by deletion alone, with both fills;
# LayerCAM is even with the random map and loses to the centre by three measures.
ADVANTAGES = {
    ("grad_cam", "random"): {"mean deletion": 1, "blur deletion": 1, "mean insertion": 1,
                             "blur insertion": 1},
    ("grad_cam", "centre"): {"mean deletion": 1, "blur deletion": 1},
    ("layer_cam", "centre"): {"mean deletion": -1, "blur deletion": -1, "mean insertion": -1},
    ("grad_cam", "layer_cam"): {"mean deletion": -1, "blur insertion": 1},
}  # fmt: skip
# With all weights random Grad-CAM is another map; LayerCAM is not.
RANDOMISATION = """heatmap,randomised,rank_correlation,low,high,least,greatest,networks,images,maps
grad_cam,last layer,0.99,0.98,1.00,0.98,1.00,4,9,36
layer_cam,last layer,0.99,0.98,1.00,0.98,1.00,4,9,36
grad_cam,all layers,0.10,0.05,0.15,-0.10,0.30,4,9,36
layer_cam,all layers,0.90,0.85,0.95,0.80,0.97,4,9,36
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
    content["architectures"] = {name: content["architectures"][name] for name in MODELS}
    content["architectures"]["ca_cnn"]["baseline"] = "cnn"
    content["data"]["image_size"] = 8
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
        """Change ``dataset.json``, and let what was measured be of the splits with this change."""
        path = self.splits / "dataset.json"
        written(path, json.loads(path.read_text()) | changes)
        fingerprint = {"splits": arrays.read(self.splits).fingerprint}
        data = self.root / "data"
        for path in (data / "measured" / "timings.json", *data.glob("evaluated/*/*/metrics.json")):
            written(path, json.loads(path.read_text()) | fingerprint)

    def make_timings(self) -> None:
        folder = self.root / "data" / "measured"
        folder.mkdir(parents=True, exist_ok=True)
        latencies = {model: 1.25 if "_" in model else 1.0 for model in MODELS}
        timings = made_timings(latencies, splits=arrays.read(self.splits).fingerprint)
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
        best = float(history["validation_accuracy"][3])  # of the fourth epoch, see made_training
        training = made_training(model=model, seed=seed, validation_accuracy=best)
        records.write(trained / "train.json", training)
        (trained / "model.safetensors").write_bytes(WEIGHTS)

        labels = self.labels[seed]
        logits = generator.normal(size=(len(labels), len(CLASSES))).astype(np.float32)
        logits[np.arange(len(labels)), labels] += 2
        self.logits[model, seed] = logits
        evaluated.mkdir(parents=True)
        np.save(evaluated / "logits.npy", logits)
        changes = {"parameters": 1000 if "_" not in model else 1020}
        changes |= {"splits": arrays.read(self.splits).fingerprint}
        if "_" in model:  # their attention looks at the image of half of the images
            answers = logits.argmax(axis=1)
            without = np.where(np.arange(len(labels)) % 2 == 0, (labels + 1) % 4, answers)
            given = {"frozen": without, "shuffled": without}
            np.savez(evaluated / "interventions.npz", intact=answers, **given)
            changes["interventions"] = {
                name: records.Intervened(
                    accuracy=float((of == labels).mean()), changed=int((of != answers).sum())
                )
                for name, of in given.items()
            }
            changes["modules"] = {"block1": "varies", "block2": "constant", "block3": "dead"}
        metrics = made_evaluation(logits, labels, CLASSES, **changes)
        records.write(evaluated / "metrics.json", metrics)

    def make_figures(self, model: str) -> None:
        folder = self.reports / "figures" / model
        folder.mkdir(parents=True)
        names = ["feature_maps.png", "heatmaps.png", "cams.png", "faithfulness.svg"]
        names += ["faithfulness_curves.svg", "randomisation.svg"]
        names += ["attention.svg", "attention_variation.svg"] if "_" in model else []
        for name in names:
            write_figure(folder / name)
        differences = DIFFERENCES.copy()
        for row, (fill, curve, *pair) in enumerate(DIFFERENCES.iloc[:, :4].itertuples(index=False)):
            sign = ADVANTAGES.get(tuple(pair), {}).get(f"{fill} {curve}", 0)
            numbers = ["advantage", "low", "high"]
            differences.loc[row, numbers] = 0.2 * sign + np.array([0, -0.05, 0.05])
        differences.to_csv(folder / "faithfulness.csv", index=False)
        AREAS.to_csv(folder / "faithfulness_areas.csv", index=False)
        EMPTY_IMAGES.to_csv(folder / "empty_images.csv", index=False)
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


def line_of_answer(text: str, label: str) -> str:
    """Return what the line with a label such as ``Price`` says below the answer."""
    (found,) = re.findall(rf"^- \*\*{label}:\*\* (.+)$", text.partition("\n## ")[0], re.MULTILINE)
    return found


def beside_the_answer(text: str) -> list[str]:
    """Return the doubts between the answer and the first section, the strongest first."""
    answer = text.partition("\n## ")[0]
    doubts = answer.partition("- **Strongest doubt:** ")[2].partition("- **Next step:**")[0]
    return [f"- {line.removeprefix('- ')}" for line in doubts.splitlines()]


def caveats(text: str) -> list[str]:
    section = text.partition("### Other doubts")[2].partition("\n#")[0]
    return [line for line in section.splitlines() if line.startswith("- ")]


def section(text: str, heading: str) -> str:
    return text.partition(f"\n{heading}\n")[2].partition("\n## ")[0]


def ensemble_probabilities(project: Project, members: list[tuple[str, int]]) -> np.ndarray:
    return np.mean([softmax(project.logits[run].astype(float), axis=1) for run in members], axis=0)


def data_section(text: str) -> str:
    return text.partition("\n### Data\n")[2].partition("\n### ")[0]


def stop_early(project: Project, model: str, seed: int, epochs: int) -> None:
    """Have a training end after so many epochs, the last but one of which was the best."""
    path = project.root / "data" / "trained" / model / str(seed) / "history.csv"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[: 1 + epochs]))
    call_best(project, model, seed, epochs - 1, epochs=epochs, stopped_early=True)


def call_best(project: Project, model: str, seed: int, epoch: int, **changes: Any) -> None:
    """Have a training say that it kept the weights of an epoch."""
    folder = project.root / "data" / "trained" / model / str(seed)
    history = pd.read_csv(folder / "history.csv").set_index("epoch")
    changes |= {"best_epoch": epoch}
    changes |= {"validation_accuracy": float(history.loc[epoch, "validation_accuracy"])}
    written(folder / "train.json", json.loads((folder / "train.json").read_text()) | changes)
