"""What attention does: which weights it gives to which class, and whether they vary at all."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from torch import Tensor

from pipeline.explain.attention_figures import draw_attention, draw_attention_variation
from pipeline.explain.attention_weights import (
    CONSTANT_BELOW,
    ModuleWeights,
    share_by_chance,
    variation,
    weights_by_class,
)
from pipeline.explain.feature_maps import spread
from pipeline.figures.style import save, shortened
from pipeline.models.layers import Classifier
from pipeline.storage.csv_files import write_table
from pipeline.storage.records import ATTENTION_VARIATION

MOST_PANELS = 6  # of each kind of attention


def explain_attention(
    network: Classifier,
    batches: Iterable[tuple[Tensor, np.ndarray]],
    classes: Sequence[str],
    model: str,
    folder: Path,
) -> dict[str, Any]:
    """Write what the attention modules of a network do.

    Writes ``attention.png`` and ``attention.csv``, the mean weights by class, and
    ``attention_variation.png`` and ``attention_variation.csv``, how much they vary and with what.

    Args:
        network: with attention that tells its weights, in evaluation mode.
        batches: inputs float32 (B, C, H, W), normalised, and labels int64 (B,).
        classes: the names of the K classes.
        model: the network's name in titles.
        folder: where to write.

    Returns:
        the modules by name with their kind and the shape of their weights, which of them
        attention.png shows, which are constant, and what counts as that.
    """
    weights = weights_by_class(network, network.attention_layers(), batches, len(classes))
    drawn = _drawn(weights)
    varying = variation_table(weights)

    save(draw_attention(_title(model, drawn, weights), drawn, classes), folder / "attention.png")
    save(draw_attention_variation(model, weights), folder / "attention_variation.png")
    write_table(attention_table(weights, classes), folder / "attention.csv")
    write_table(varying, folder / "attention_variation.csv", ATTENTION_VARIATION)
    return {
        "modules": {
            name: {"kind": of_module.kind, "shape": list(of_module.shape)}
            for name, of_module in weights.items()
        },
        "shown": list(drawn),
        "constant": varying["module"][varying["constant"]].tolist(),
        "constant_below": CONSTANT_BELOW,
    }


def attention_table(weights: Mapping[str, ModuleWeights], classes: Sequence[str]) -> pd.DataFrame:
    """Return one row for each module, weight and class.

    The columns are layer, kind, index (of the channel, or of the position, row by row), class,
    mean_weight and sd_over_images, both of maps that are averaged down where they are large.
    """
    frames = []
    for layer, of_module in weights.items():
        count = of_module.mean.shape[1]
        frames.append(
            pd.DataFrame(
                {
                    "layer": layer,
                    "kind": of_module.kind,
                    "index": np.repeat(np.arange(count), len(classes)),
                    "class": list(classes) * count,
                    "mean_weight": of_module.mean.T.ravel(),
                    "sd_over_images": of_module.sd.T.ravel(),
                }
            )
        )
    return pd.concat(frames, ignore_index=True)


def variation_table(weights: Mapping[str, ModuleWeights]) -> pd.DataFrame:
    """Return one row for each module: the numbers of its `Variation`, and whether it is constant.

    The columns are module, kind, weights, mean, sd_between, sd_over_images, share_by_class (empty
    where nothing varies), share_by_chance (what classes without any influence explain in the mean)
    and constant.
    """
    rows = []
    for name, of_module in weights.items():
        varying = variation(of_module)
        rows.append(
            {
                "module": name,
                "kind": of_module.kind,
                "weights": len(varying.means),
                "mean": varying.mean,
                "sd_between": varying.sd_between,
                "sd_over_images": varying.sd_over_images,
                "share_by_class": varying.share_by_class,
                "share_by_chance": share_by_chance(of_module.images),
                "constant": varying.constant,
            }
        )
    return pd.DataFrame(rows)


def _drawn(weights: Mapping[str, ModuleWeights]) -> dict[str, ModuleWeights]:
    """Return of each kind as many modules as a figure can show, from the first to the last."""
    kinds = {of_module.kind for of_module in weights.values()}
    names: set[str] = set()
    for kind in kinds:
        names.update(spread([name for name in weights if weights[name].kind == kind], MOST_PANELS))
    return {name: of_module for name, of_module in weights.items() if name in names}


def _title(
    model: str, drawn: Mapping[str, ModuleWeights], weights: Mapping[str, ModuleWeights]
) -> str:
    which = "" if len(drawn) == len(weights) else f" ({len(drawn)} of {len(weights)} modules)"
    return f"Mean attention weight by class in {shortened(model, 40)}{which}"
