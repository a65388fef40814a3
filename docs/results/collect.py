"""Collect what a finished run has to show, so that anybody can recompute its verdicts.

    python -m docs.results.collect ../finished-project docs/results/tutorial

copies the settings (of a path to images its end), the report with the figures and tables that it
links to, the predicted classes of the test images and the training histories of every run, and what
networks with attention answer without seeing the image. It prints a `compare` command for each
pair. README.md beside them says what was asked and what came out.
"""

from __future__ import annotations

import json
import re
import shutil
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from pipeline.data import arrays
from pipeline.settings.load import load
from pipeline.storage.npy import save_array

LINK = re.compile(r"\]\(((?:figures|tables)/[^) ]+|[a-z]+\.csv)[) ]")
COLOURS = 128  # of a figure's palette: a third of its bytes


def collect(project: Path, folder: Path) -> list[str]:
    """Copy a project's results to `folder`; return the commands that compare its pairs.

    What `folder` holds of runs goes first: they may have been others.
    """
    reports = project / "reports"
    settings = load(project / "params.yaml")
    images = Path(settings.data.path)
    for path in (project / "params.yaml", reports / "report.md", reports / "verdict.json"):
        text = path.read_text("utf-8").replace(str(images), "/".join(images.parts[-2:]))
        (folder / path.name).parent.mkdir(parents=True, exist_ok=True)
        (folder / path.name).write_text(text, encoding="utf-8")
    for linked in sorted(set(LINK.findall((reports / "report.md").read_text("utf-8")))):
        copy(reports / linked, folder / linked)

    verdicts = json.loads((reports / "verdict.json").read_text("utf-8"))
    evaluated = project / "data" / "evaluated"
    runs = [
        evaluated / model / str(seed) for model in settings.architectures for seed in settings.seeds
    ]
    dataset = arrays.read(project / "data" / "splits").for_run(int(runs[0].name))
    for kept in ("predictions", "interventions", "histories"):
        shutil.rmtree(folder / kept, ignore_errors=True)
    save(folder / "labels.npy", dataset.labels[dataset.rows("test")])
    for run in runs:
        name = f"{run.parent.name}-{run.name}"
        save(folder / "predictions" / f"{name}.npy", np.load(run / "logits.npy").argmax(axis=1))
        if (run / "interventions.npz").exists():
            with np.load(run / "interventions.npz") as answers:
                small = {kind: answers[kind].astype(np.uint8) for kind in answers}
            (folder / "interventions").mkdir(exist_ok=True)
            np.savez_compressed(folder / "interventions" / f"{name}.npz", **small)
        history = project / "data" / "trained" / run.parent.name / run.name / "history.csv"
        copy(history, folder / "histories" / f"{name}.csv")
    return [command(pair, folder) for pair in verdicts["pairs"]]


def command(pair: dict[str, object], folder: Path) -> str:
    """Return the command that computes one pair of ``verdict.json`` from the predictions."""
    files = {
        option: f"{folder.as_posix()}/predictions/{pair[key]}-*.npy"
        for option, key in (("candidate", "model"), ("baseline", "baseline"))
    }
    return (
        f"python -m pipeline compare --candidate {files['candidate']} --baseline "
        f"{files['baseline']} --labels {folder.as_posix()}/labels.npy --margin {pair['margin']} "
        f"--confidence {pair['confidence']}"
    )


def save(path: Path, classes: np.ndarray) -> None:
    """Write classes, integers (N,) below 256."""
    if classes.max() > np.iinfo(np.uint8).max:
        raise SystemExit(f"{path}: more than 256 classes")
    path.parent.mkdir(parents=True, exist_ok=True)
    save_array(path, classes.astype(np.uint8))


def copy(path: Path, to: Path) -> None:
    """Copy a file; a figure with fewer colours."""
    to.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix != ".png":
        shutil.copyfile(path, to)
        return
    with Image.open(path) as figure:
        figure.convert("RGB").quantize(COLOURS).save(to, optimize=True)


if __name__ == "__main__":
    if len(sys.argv) != 3 or not Path(sys.argv[1], "reports", "verdict.json").exists():
        sys.exit("name a project whose report is made, and a folder for its results")
    print("\n".join(collect(Path(sys.argv[1]), Path(sys.argv[2]))))
