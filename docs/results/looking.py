"""Print whether the attention of a finished comparison looks at the image, and what that rests on.

    python -m docs.results.looking docs/results/attention_table

reads what `docs.results.collect` put there: what each network answers, and answers with its
attention weights frozen to their mean and with those of another image.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from pipeline.settings.load import load
from pipeline.statistics.looking import Intervention, Looking, intervention, looking


def found_in(folder: Path) -> dict[str, Looking]:
    """Return what follows from the answers in `folder` for each architecture with attention."""
    settings = load(folder / "params.yaml")
    labels = np.load(folder / "labels.npy")  # (N,)
    found = {}
    for model, architecture in settings.architectures.items():
        runs = [np.load(path) for path in sorted((folder / "interventions").glob(f"{model}-*.npz"))]
        if not runs:
            continue
        intact, frozen, shuffled = (
            [run[name] for run in runs] for name in ("intact", "frozen", "shuffled")
        )
        both = (
            intervention(intact, replaced, [labels] * len(runs), same_images=True)
            for replaced in (frozen, shuffled)
        )
        attention = architecture.model_dump().get("attention")
        found[model] = looking(*both, settings.report.margin, attention)
    if not found:
        raise SystemExit(
            f"{folder / 'interventions'}: no answers; docs.results.collect puts them there"
        )
    return found


def cell(lost: Intervention) -> str:
    """Return such as ``1.92 (1.66 to 2.18)``: points of accuracy, with the interval."""
    return f"{lost.loss:.2f} ({lost.low:.2f} to {lost.high:.2f})"


def table(folder: Path) -> str:
    """Return the table as Markdown."""
    lines = [
        "| architecture | looks at the image | points lost, frozen | another image's weights |",
        "| :-- | :-- | --: | --: |",
    ]
    for model, of in found_in(folder).items():
        lines.append(f"| `{model}` | {of.looks} | {cell(of.frozen)} | {cell(of.shuffled)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    if len(sys.argv) != 2 or not Path(sys.argv[1], "params.yaml").exists():
        sys.exit("name one folder that docs.results.collect made")
    print(table(Path(sys.argv[1])))
