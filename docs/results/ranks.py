"""Print a finished comparison as one table with ranks.

    python -m docs.results.ranks docs/results/attention_table

reads what `docs.results.collect` put there. A rank is 1 plus the number of architectures that are
shown to be better: by the gain's own interval on their predictions, corrected for all pairs of
architectures, those of `verdict.json` and the others. All that nothing is shown to beat share the
first rank; two of different ranks need not be distinguishable themselves.
"""

from __future__ import annotations

import json
import sys
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd

from pipeline.statistics.gain import corrected, trained_gain
from pipeline.system.formats import large, latency, points, spread


def ranks(folder: Path, models: list[str]) -> dict[str, int]:
    """Return each architecture's rank, from 1, by the predictions in `folder`."""
    labels = np.load(folder / "labels.npy")  # (N,)
    correct = {}  # bool (R, N)
    for model in models:
        files = sorted((folder / "predictions").glob(f"{model}-*.npy"))
        correct[model] = np.stack([np.load(path) for path in files]) == labels
    pairs = list(combinations(models, 2))
    gains = corrected([trained_gain(correct[one], correct[other]) for one, other in pairs])
    better = dict.fromkeys(models, 0)  # how many are better than it
    for (one, other), gain in zip(pairs, gains, strict=True):
        if gain.low > 0 or gain.high < 0:
            better[other if gain.gain > 0 else one] += 1
    return {model: 1 + count for model, count in better.items()}


def table(folder: Path) -> str:
    """Return the table as Markdown, the most accurate architecture first."""
    rows = pd.read_csv(folder / "comparison.csv")
    rows = rows[rows["kind"] == "architecture"].sort_values("accuracy", ascending=False)
    verdicts = json.loads((folder / "verdict.json").read_text("utf-8"))
    baselines = list(dict.fromkeys(pair["baseline"] for pair in verdicts["pairs"]))
    gains = {(pair["model"], pair["baseline"]): pair for pair in verdicts["pairs"]}
    rank = ranks(folder, list(rows["model"]))
    names = [f"gain over `{baseline}`" for baseline in baselines]
    lines = [
        f"| rank | architecture | test accuracy | {' | '.join(names)} "
        "| looks at the image | parameters | latency |",
        f"| --: | :-- | --: |{' --: |' * len(names)} :-- | --: | --: |",
    ]
    for row in rows.to_dict("records"):
        model = row["model"]
        cells = [str(rank[model]), f"`{model}`", spread(row["accuracy"], row["accuracy_sd"])]
        cells += [gain_cell(gains.get((model, baseline))) for baseline in baselines]
        cells.append(verdicts["networks"].get(model, {}).get("looks_at_image", ""))
        cells += [large(row["parameters"]), latency(row["latency_ms"])]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def gain_cell(pair: dict[str, float] | None) -> str:
    """Return such as ``+0.12 (-0.40 to +0.64), undecided``; nothing where it isn't compared."""
    if pair is None:
        return ""
    ends = f"{points(pair['low'])} to {points(pair['high'])}"
    return f"{points(pair['gain'])} ({ends}), {pair['verdict']}"


if __name__ == "__main__":
    if len(sys.argv) != 2 or not Path(sys.argv[1], "verdict.json").exists():
        sys.exit("name one folder that docs.results.collect made")
    print(table(Path(sys.argv[1])))
