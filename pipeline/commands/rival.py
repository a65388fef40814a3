"""An equal-cost rival: a baseline widened until it costs as much as the candidate."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from pipeline.commands.models import images_shape
from pipeline.data.sources.registry import Shape
from pipeline.evaluation import cost
from pipeline.models import registry
from pipeline.settings import rules
from pipeline.settings.added_baseline import with_baseline
from pipeline.settings.commented_yaml import flow
from pipeline.settings.load import check
from pipeline.settings.schema import Architecture, Cnn, DenseNet, Settings, named
from pipeline.settings.yaml_file import parse, read_text
from pipeline.statistics.cost_ratio import ROUNDS, CostRatio, cost_ratio
from pipeline.storage.atomic import write_text
from pipeline.system.errors import InputError, StageError, choose
from pipeline.system.formats import listed
from pipeline.system.machine import BUSY, OtherProcesses
from pipeline.training import compute

Match = Literal["latency", "macs", "parameters"]
TOLERANCE = 0.05
WIDEST = 8  # times the baseline's width
# By family, in this order: what is widened, and what then makes up the rest.
WIDTHS = {"cnn": ("channels", "hidden"), "densenet": ("growth_rate", "num_init_features")}
REPEATS = 20  # of a latency, in each round
VERIFIED = 3  # of the nearest, measured once more
WORDS: dict[Match, str] = {"latency": "latency", "macs": "MACs", "parameters": "parameters"}


def add(settings: Settings, model: str, match: Match, params: Path, splits: Path) -> list[str]:
    """Add to `params` the first baseline of `model`, as wide as its cost asks for.

    The split stage's `splits` are read where the source has no fixed shape.

    Returns:
        what to say to the person.

    Raises:
        InputError: if there is no baseline that can be widened, it starts from weights, the name is
            taken, or the shape of the images isn't known yet.
        StageError: if no width costs as much within 5 %.
    """
    choose(model, settings.architectures, "MODEL")
    candidate = settings.architectures[model]
    baselines = named(candidate.baseline)
    if not baselines:
        raise InputError(
            f"params.yaml: architectures.{model}: has no baseline that could be widened; name one "
            f"(baseline: ...) or take another architecture"
        )
    first, name = baselines[0], f"wider_{baselines[0]}"
    baseline = settings.architectures[first]
    if not isinstance(baseline, Cnn | DenseNet):
        raise InputError(
            f"params.yaml: architectures.{first}: {baseline.family} networks have no setting of "
            "their width"
        )
    if baseline.weights is not None:
        raise InputError(
            f"params.yaml: architectures.{first}.weights: fit a network of its width alone; remove "
            "weights to widen it"
        )
    if name in settings.architectures:
        raise InputError(
            f"params.yaml: architectures.{name}: is there already; remove it, also from the "
            f"baselines of {model}, or rename it"
        )
    shape, what = images_shape(settings, splits), WORDS[match]
    with compute.prepare(settings.compute, precision="fp32") as hardware:
        others = OtherProcesses()
        make = partial(_network, shape=shape, device=hardware.device)
        ratio = partial(_ratio, match, make(candidate), make, shape)
        found = ratio(baseline)
        if found.ratio >= 1 - TOLERANCE:
            return [f"{first} has {_compared(found)} the {what} of {model}: nothing to add"]
        rival, found = _search(settings, baseline, ratio)
        share = others.share()
    changes = {
        setting: getattr(rival, setting)
        for setting in WIDTHS[baseline.family]
        if getattr(rival, setting) != getattr(baseline, setting)
    }
    wider = f"{first} with {listed([f'{key} {flow(value)}' for key, value in changes.items()])}"
    busy = ""
    if match == "latency" and share > BUSY:
        busy = (
            f"; other processes took {share:.0%} of the processor time meanwhile: better do it "
            "when nothing else runs"
        )
    if abs(found.ratio - 1) > TOLERANCE:
        raise StageError(
            f"no width of {first} has the {what} of {model} within {TOLERANCE:.0%}: the nearest, "
            f"{wider}, has {_compared(found)} as much; nothing was added{busy}"
        )
    text = with_baseline(
        read_text(params), model, first, name, changes, f"the {what} of {model}, by `rival`"
    )
    check(parse(text, params.name), params.name)
    write_text(params, text)
    return [
        f"{params}: added {name}, which is {wider}: {_compared(found)} the {what} of {model}{busy}",
        f"{model} is now compared with {listed([*baselines, name])}",
        "next: snakemake --cores 4",
    ]


def _network(architecture: Architecture, shape: Shape, device: torch.device) -> nn.Module:
    network = registry.build(
        architecture.model_dump(), shape.num_classes, shape.image_size, shape.channels
    )
    return network.to(device).to(memory_format=torch.channels_last)


def _ratio(
    match: Match,
    candidate: nn.Module,
    make: Callable[[Architecture], nn.Module],
    shape: Shape,
    rival: Architecture,
) -> CostRatio:
    """Return how many times the candidate's cost a rival's is, latencies measured in turns."""
    networks = [make(rival), candidate]
    if match == "latency":
        weight = next(candidate.parameters())
        image = weight.new_zeros((1, shape.channels, shape.image_size, shape.image_size))
        image = image.to(memory_format=torch.channels_last)
        measures = {
            str(number): partial(cost.latency, network, image, REPEATS)
            for number, network in enumerate(networks)
        }
        rounds = cost.in_turns(measures, range(ROUNDS))  # of each (ROUNDS, REPEATS)
        return cost_ratio(*(np.median(found, axis=1) for found in rounds.values()))
    count: Callable[[nn.Module], int] = cost.parameters
    if match == "macs":
        count = partial(cost.macs, image_size=shape.image_size, in_channels=shape.channels)
    ours, theirs = map(count, networks)
    return CostRatio(ours / theirs, ours / theirs, ours / theirs)


def _search(
    settings: Settings, baseline: Cnn | DenseNet, ratio: Callable[[Architecture], CostRatio]
) -> tuple[Architecture, CostRatio]:
    """Return the rival whose cost is nearest to the candidate's: by bisection, then once more.

    The first width takes it as near as it can from below, the second one makes up the rest.
    """
    tried: list[tuple[CostRatio, Architecture]] = []

    def fits(rival: Architecture) -> bool:
        tried.append((ratio(rival), rival))
        return tried[-1][0].ratio <= 1

    best: Architecture = baseline
    for setting in WIDTHS[baseline.family]:
        steps = [best, *_wider(settings, best, setting)]
        best = steps[_last_that_fits(steps, fits)]
        if any(abs(found.ratio - 1) <= TOLERANCE / 2 for found, _ in tried):
            break
    if not tried:
        raise StageError("nothing was added: no wider setting of the baseline is valid")
    nearest = sorted(tried, key=lambda one: abs(math.log(one[0].ratio)))[:VERIFIED]
    again = [(ratio(rival), rival) for _, rival in nearest]  # the nearest of many is so by luck
    found, rival = min(again, key=lambda one: abs(math.log(one[0].ratio)))
    return rival, found


def _wider(settings: Settings, architecture: Architecture, setting: str) -> Iterator[Architecture]:
    """Yield the architecture with one width growing, as long as the settings are valid.

    A list of widths grows in proportion. Multiples of 8 stay such, as kernels like them.
    """
    value: Any = getattr(architecture, setting)
    widths = value if isinstance(value, list) else [value]
    unit = 1 if setting in WIDTHS["densenet"] else math.gcd(8, *widths)
    for widest in range(max(widths) + unit, WIDEST * max(widths) + 1, unit):
        grown = [unit * max(1, round(width * widest / max(widths) / unit)) for width in widths]
        wider = architecture.model_copy(
            update={setting: grown if isinstance(value, list) else grown[0]}
        )
        alone = settings.model_copy(update={"architectures": {"rival": wider}})
        if not rules.conflicts(alone):
            yield wider


def _last_that_fits(steps: Sequence[Architecture], fits: Callable[[Architecture], bool]) -> int:
    """Return the position of the last that fits, of steps of which the first one does."""
    low, high = 0, 1
    while high < len(steps) and fits(steps[high]):
        low, high = high, 2 * high
    high = min(high, len(steps))
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(steps[middle]) else (low, middle)
    return low


def _compared(found: CostRatio) -> str:
    """Return such as ``1.02 times (0.99 to 1.05)``; without the range if it is exact."""
    if found.low == found.high:
        return f"{found.ratio:.3f} times"
    return f"{found.ratio:.2f} times ({found.low:.2f} to {found.high:.2f} in {ROUNDS} rounds)"
