"""Whether the heatmaps point at what the networks use, all architectures side by side."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from pipeline.figures.style import HEATMAPS, draw_legend, shortened, style

CURVES = {
    "deletion": "Deletion, hottest pixels first: lower is better",
    "insertion": "Insertion, hottest pixels first: higher is better",
}
GROUP = 0.72  # of the height of an architecture's row that its kinds of heatmap take


def draw_faithfulness(faithfulness: Mapping[str, pd.DataFrame]) -> Figure:
    """Draw the areas, with intervals, of each architecture's ``faithfulness.csv``."""
    with style():
        found = {kind for table in faithfulness.values() for kind in table["heatmap"]}
        looks = {kind: look for kind, look in HEATMAPS.items() if kind in found}
        offsets = dict(zip(looks, np.linspace(-GROUP / 2, GROUP / 2, len(looks)), strict=True))
        figure = Figure(figsize=(11, 1.8 + 0.95 * len(faithfulness)), layout="constrained")
        panels = figure.subplots(1, len(CURVES), sharey=True)
        for axes, (curve, title) in zip(panels, CURVES.items(), strict=True):
            for position, table in enumerate(faithfulness.values()):
                for area in table[table["curve"] == curve].to_dict("records"):
                    look, row = looks[area["heatmap"]], position + offsets[area["heatmap"]]
                    axes.hlines(row, area["low"], area["high"], color=look.colour, linewidth=1.8)
                    axes.plot(area["area"], row, look.marker, color=look.colour, markersize=6)
                if position:
                    axes.axhline(position - 0.5, color="lightgrey", linewidth=0.8)
            axes.set_title(title)
            axes.set_xlabel("area under the probability of the predicted class")
            axes.grid(axis="x", alpha=0.25)
        names = [shortened(model, 24) for model in faithfulness]
        panels[0].set_yticks(range(len(names)), names)
        panels[0].set_ylim(len(names) - 0.5, -0.5)
        legend = [
            {"label": look.name, "color": look.colour, "marker": look.marker}
            for look in looks.values()
        ]
        draw_legend(figure, legend)
    return figure
