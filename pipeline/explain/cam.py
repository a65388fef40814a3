"""Class activation maps: where a network's maps speak for a class.

Grad-CAM: Selvaraju et al., "Grad-CAM: Visual Explanations from Deep Networks via Gradient-based
Localization", https://arxiv.org/abs/1610.02391
LayerCAM: Jiang et al., "LayerCAM: Exploring Hierarchical Class Activation Maps for Localization",
IEEE Transactions on Image Processing 30 (2021)

Both weight a layer's maps by the gradient of the class's logit, sum them over the channels and keep
the positive part. Grad-CAM takes the gradient's mean over the positions, LayerCAM its positive part
at each position, which works in finer, shallower layers too. Both use the maps that the next layers
see, after activation and attention. The output of a bare convolution is neither rectified nor
weighted yet: there a gradient times a large negative value would count for the class as well.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal

import numpy as np
import torch
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.nn import functional as F
from torchcam.methods import GradCAM, LayerCAM

from pipeline.figures.style import (
    HEAT_COLOURS,
    HEAT_LABEL,
    HEATMAPS,
    shortened,
    show_classified,
    show_heat,
    style,
)
from pipeline.models.inspection import forward_hooks, frozen_eval, record_outputs
from pipeline.models.layers import Classifier

Kind = Literal["grad_cam", "layer_cam"]

METHODS: dict[Kind, Callable[..., Any]] = {"grad_cam": GradCAM, "layer_cam": LayerCAM}
FINER = 2  # the least that LayerCAM's map is finer than Grad-CAM's, where the network has such maps
LARGEST_STORED = 32  # pixels a side
LONGEST_LAYER_NAME = 28


def cam_layers(network: Classifier, inputs: Tensor) -> dict[Kind, str]:
    """Return the name of the layer, of `network.activation_layers()`, that each kind is taken at.

    Grad-CAM's is the deepest whose maps have more than one position, LayerCAM's the deepest whose
    maps are at least twice as fine as that; the same one if there is none. Of `inputs`, float32
    (B, C, H, W), normalised, one image is enough.
    """
    layers = network.activation_layers()
    with frozen_eval(network), torch.no_grad(), record_outputs(layers) as outputs:
        network(inputs[:1])
    sizes = {name: outputs[name].shape[2] for name in layers}
    deepest = next((name for name in reversed(sizes) if sizes[name] > 1), list(sizes)[-1])
    finer = (name for name in reversed(sizes) if sizes[name] >= FINER * sizes[deepest])
    return {"grad_cam": deepest, "layer_cam": next(finer, deepest)}


def class_activation_maps(
    network: nn.Module, kind: Kind, layer: nn.Module, inputs: Tensor, targets: Tensor | None = None
) -> np.ndarray:
    """Return what speaks for each image's target class at each position of a layer.

    Args:
        network: maps `inputs` to logits (B, K); run in evaluation mode, and left as it was.
        kind: the method.
        layer: a module of the network that gives maps (B, channels, h, w).
        inputs: float32 (B, C, H, W), normalised.
        targets: int64 (B,), the classes; those that the network predicts if None.

    Returns:
        float32 (B, h, w) in [0, 1], each map divided by its own maximum; all 0 where nothing
        speaks for the class.
    """
    with (
        frozen_eval(network),
        forward_hooks({"": layer}, _begin_graph),
        METHODS[kind](network, layer) as method,
        torch.enable_grad(),
    ):
        logits = network(inputs)
        classes = logits.argmax(1) if targets is None else targets
        maps = method(classes.tolist(), logits, normalized=False)[0]
    return _over_maximum(maps.float()).cpu().numpy()


def predicted_class_maps(
    network: nn.Module, layer: nn.Module, batches: Iterable[tuple[Tensor, Any]]
) -> np.ndarray:
    """Return Grad-CAM of the predicted class, for every image of `batches`.

    Args:
        network: in evaluation mode.
        layer: a module of the network that gives maps (B, channels, h, w).
        batches: inputs float32 (B, C, H, W), normalised, and something that is not used.

    Returns:
        float16 (N, h, w) in [0, 1], each divided by its own maximum; larger maps are averaged over
        areas down to 32 x 32.
    """
    maps = []
    for inputs, _ in batches:
        found = torch.from_numpy(class_activation_maps(network, "grad_cam", layer, inputs))
        height, width = (min(side, LARGEST_STORED) for side in found.shape[1:])
        small = _over_maximum(F.adaptive_avg_pool2d(found, (height, width)))
        maps.append(small.numpy().astype(np.float16))
    return np.concatenate(maps)


@torch.no_grad()
def predicted_classes(network: nn.Module, inputs: Tensor) -> Tensor:
    """Return the class with the highest logit for each of `inputs` (B, C, H, W), int64 (B,)."""
    return network(inputs).argmax(1)


def _begin_graph(name: str, layer: nn.Module, inputs: Any, output: Tensor) -> Tensor:
    """Begin the gradient's graph at a layer's output: nothing below it is stored."""
    # A copy, since some libraries' networks then change it in place: no leaf allows that.
    return output.detach().requires_grad_().clone()


def _over_maximum(maps: Tensor) -> Tensor:
    """Divide each of `maps` (B, h, w), none of them negative, by its maximum, if it has one."""
    return maps / maps.amax((1, 2), keepdim=True).clamp_min(torch.finfo(maps.dtype).tiny)


def draw_cams(
    title: str,
    images: np.ndarray,
    true_classes: Sequence[str],
    predicted_classes: Sequence[str],
    maps: dict[Kind, np.ndarray],
    layers: dict[Kind, str],
) -> Figure:
    """Draw one row for each image: the image, then each kind of map, as it is.

    `images` are uint8 (B, H, W, C), `maps` float32 (B, h, w) in [0, 1], from `layers` by name.
    """
    with style():
        rows, columns = len(images), 1 + len(maps)
        figure = Figure(figsize=(3.1 * columns + 0.9, 3.3 * rows + 0.6), layout="constrained")
        figure.suptitle(title)
        panels = figure.subplots(rows, columns, squeeze=False)
        for row, image in enumerate(images):
            show_classified(panels[row, 0], image, true_classes[row], predicted_classes[row])
            for axes, (kind, heat) in zip(panels[row, 1:], maps.items(), strict=True):
                show_heat(axes, image, heat[row])
                height, width = heat.shape[1:]
                layer = shortened(layers[kind], LONGEST_LAYER_NAME)
                axes.set_title(f"{HEATMAPS[kind].name}, {height} x {width}\n{layer}")
        scale, shrink = ScalarMappable(Normalize(0, 1), HEAT_COLOURS), min(1.0, 0.5 + 0.4 / rows)
        bar = figure.colorbar(scale, ax=panels, shrink=shrink, aspect=25)
        bar.set_label(HEAT_LABEL)
    return figure
