"""Which weights of another training a network takes, and what it makes new.

The last layer is always new. Attention that the other network didn't have begins without effect:
Hu et al., "Squeeze-and-Excitation Networks", https://arxiv.org/abs/1709.01507, put it into networks
that are trained with it from the start; here the pretrained weights have to stay worth something.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.models.attention import Attention
from pipeline.models.inspection import forward_hooks, frozen_eval
from pipeline.models.layers import Classifier
from pipeline.models.library import GATES, LibraryClassifier, LibraryGate
from pipeline.system.errors import InputError

IMAGES_TRIED = 2
MOST_NAMED = 4
AUXILIARY = ("AuxLogits.", "aux1.", "aux2.")  # classifiers of GoogLeNet, for its training alone
COUNT = "num_batches_tracked"  # older files don't have it
# torchvision's files of DenseNets are older than its names: norm.1 is norm1
OLD_DENSENET = re.compile(r"(.*denselayer\d+\.(?:norm|relu|conv))\.([12]\..*)")


@dataclass
class Transfer:
    """What became of a file's tensors and a network's, by name."""

    taken: list[str] = field(default_factory=list)
    adapted: list[str] = field(default_factory=list)  # to another number of image channels
    rescaled: list[str] = field(default_factory=list)  # by a power of two, for new attention
    made_new: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)  # of the file

    @property
    def body(self) -> frozenset[str]:
        """The network's parameters and buffers that come from the file."""
        return frozenset([*self.taken, *self.adapted, *self.rescaled])


def head_of(build: Callable[[int], Classifier], num_classes: int) -> frozenset[str]:
    """Return the names of the tensors whose shapes depend on the number of classes.

    `build` returns the network for a number of classes; nothing is computed.
    """
    with torch.device("meta"):
        ours, others = (build(num_classes + more).state_dict() for more in (0, 1))
    return frozenset(name for name in ours if ours[name].shape != others[name].shape)


def transfer(
    network: Classifier, state: Mapping[str, Tensor], head: frozenset[str], image_shape: torch.Size
) -> Transfer:
    """Copy into `network` what it takes of `state`, and let new attention begin without effect.

    Args:
        network: with random weights; changed in place.
        state: by name, finite numbers; another type is converted to the network's.
        head: what is made new in any case, see `head_of`.
        image_shape: (C, H, W) of the network's images.

    Raises:
        InputError: if it is the state of another network, or there is attention that can't begin
            without effect.
    """
    own = network.state_dict()
    state = _named_as_here(network, state)
    attention = {name: f"{name}." for name, _ in _attention_modules(network)}
    stem = _stem_weight(network)
    found, missing, misfits = Transfer(), [], []
    for name, tensor in own.items():
        given = state.get(name)
        if name in head:
            found.made_new.append(name)
        elif given is None:
            if name.startswith(tuple(attention.values())):
                found.made_new.append(name)
            elif not name.endswith(COUNT):
                missing.append(name)
        elif given.shape == tensor.shape:
            found.taken.append(name)
        elif name == stem:
            resized = given.shape[2:] != tensor.shape[2:]
            (found.made_new if resized else found.adapted).append(name)
        else:
            misfits.append(f"{name} {tuple(given.shape)}, here {tuple(tensor.shape)}")
    # sorted: safetensors gives them in any order
    left_out = sorted(name for name in state if name not in own)
    unknown = [name for name in left_out if not name.startswith(AUXILIARY)]
    reasons = [
        f"{what}: {_some(names)}"
        for what, names in (
            ("not in the file", missing),
            ("not in the network", unknown),
            ("of other shapes", misfits),
        )
        if names
    ]
    if reasons:
        raise InputError(f"is of another network ({'; '.join(reasons)})")
    found.left_out += [*(name for name in found.made_new if name in state), *left_out]
    with torch.no_grad():
        for name in found.taken:
            own[name].copy_(state[name])
        for name in found.adapted:
            own[name].copy_(_adapted(state[name], own[name].shape[1]))
    new = [name for name, start in attention.items() if any(map(_starts(start), found.made_new))]
    if new:
        doubled = begin_without_effect(network, new, image_shape)
        found.rescaled = [name for name in found.taken if name in doubled]
        found.taken = [name for name in found.taken if name not in doubled]
    return found


def begin_without_effect(
    network: Classifier, names: list[str], image_shape: torch.Size
) -> frozenset[str]:
    """Let attention modules begin so that the network computes what it would without them.

    The last layer of each becomes zero: so it weighs everything alike, by a half where there is a
    sigmoid, as in all trainings of ours, and learns from the first step on. What is lost of the
    maps, a power of two, the layer before or after it is multiplied by. Module and costs stay what
    they are, and the network's answers have the same bits as without it, which is checked.

    Args:
        network: changed in place.
        names: of its attention modules.
        image_shape: (C, H, W).

    Returns:
        the names of the parameters that were multiplied.

    Raises:
        InputError: if that can't be done to them.
    """
    images = torch.randn(IMAGES_TRIED, *image_shape, generator=torch.Generator().manual_seed(0))
    images = images.to(next(network.parameters()).device)
    modules = {name: network.get_submodule(name) for name in names}
    with frozen_eval(network), torch.no_grad():
        order = _weighted_in_order(network, images)
        with _bypassed(modules):
            expected = network(images)
        for name, module in modules.items():
            inside = [other for other in order if other.startswith(f"{name}.")]
            _zero(network.get_submodule(inside[-1]) if inside else module)
        inverses = _inverses(network, modules, images)
        for after in (False, True):
            neighbours = {name: _neighbour(network, order, name, after) for name in inverses}
            for name, inverse in inverses.items():
                _scale(neighbours[name], inverse)
            if torch.equal(network(images), expected):
                return frozenset(other for found in neighbours.values() for other in found)
            for name, inverse in inverses.items():
                _scale(neighbours[name], 1 / inverse)
    raise InputError(
        f"has no {names[0]}, and this attention can't begin so that the network computes what it "
        "did without; take weights that were trained with it"
    )


def _named_as_here(network: Classifier, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the state by this project's names, which begin with ``network.`` for a library's."""
    state = {OLD_DENSENET.sub(r"\1\2", name): tensor for name, tensor in state.items()}
    if isinstance(network, LibraryClassifier) and not any(map(_starts("network."), state)):
        return {f"network.{name}": tensor for name, tensor in state.items()}
    return state


def _starts(start: str) -> Callable[[str], bool]:
    return lambda name: name.startswith(start)


def _some(names: list[str]) -> str:
    more = len(names) - MOST_NAMED
    return ", ".join(names[:MOST_NAMED]) + (f" and {more} more" if more > 0 else "")


def _stem_weight(network: Classifier) -> str:
    """Return the name of the weight of the convolution that sees the images, "" without any."""
    convolutions = (name for name, part in network.named_modules() if isinstance(part, nn.Conv2d))
    first = next(convolutions, None)
    return "" if first is None else f"{first}.weight"


def _adapted(weight: Tensor, channels: int) -> Tensor:
    """Return the weight (out, C, h, w) of a first convolution for images of 1 or 3 channels.

    On grey images in RGB the network computes what the other one does on grey images.
    """
    if channels == 1:
        return weight.sum(1, keepdim=True)
    return weight.sum(1, keepdim=True).expand(-1, channels, -1, -1) / channels


def _attention_modules(network: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Yield the attention modules and their names; of a library's those of `GATES`."""
    for name, module in network.named_modules():
        is_own = isinstance(module, Attention) and not isinstance(module, LibraryGate)
        if is_own or type(module).__name__ in GATES:
            yield name, module


def _weighted_in_order(network: nn.Module, images: Tensor) -> list[str]:
    """Return the attention modules, and all others with weights of their own, as they finish."""
    attention = dict(_attention_modules(network))
    order: dict[str, None] = {}

    def note(name: str, module: nn.Module, inputs: Any, output: Any) -> None:
        order[name] = None

    weighted = {
        name: module
        for name, module in network.named_modules()
        if name in attention or next(module.parameters(recurse=False), None) is not None
    }
    with forward_hooks(weighted, note):
        network(images)
    return list(order)


@contextmanager
def _bypassed(modules: Mapping[str, nn.Module]) -> Iterator[None]:
    """Let modules give what they get while the context is open."""

    def give(name: str, module: nn.Module, inputs: tuple[Tensor, ...], output: Any) -> Tensor:
        return inputs[0]

    with forward_hooks(modules, give):
        yield


def _inverses(
    network: nn.Module, modules: Mapping[str, nn.Module], images: Tensor
) -> dict[str, float]:
    """Return by what the maps that modules give have to be multiplied; those left out by nothing.

    Each module gives its maps times a number.
    """
    inverses: dict[str, float] = {}

    def compare(name: str, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        if not torch.equal(inputs[0], output):
            inverses[name] = (inputs[0].abs().max() / output.abs().max()).item()

    with forward_hooks(modules, compare):
        network(images)
    return inverses


def _neighbour(
    network: nn.Module, order: list[str], name: str, after: bool
) -> dict[str, nn.Parameter]:
    """Return what to multiply of the layer that runs directly before or after attention.

    That before it is multiplied as a whole, of that after it the weight alone.
    """
    attention = tuple(f"{other}." for other, _ in _attention_modules(network))
    first = next(place for place, other in enumerate(order) if f"{other}.".startswith(f"{name}."))
    found = order[first:] if after else order[first::-1]
    outside = [other for other in found if not f"{other}.".startswith(attention)]
    if not outside:
        return {}
    parameters = network.get_submodule(outside[0]).named_parameters(outside[0], recurse=False)
    return {
        full: parameter for full, parameter in parameters if not (after and full.endswith(".bias"))
    }


def _scale(parameters: Mapping[str, nn.Parameter], factor: float) -> None:
    for parameter in parameters.values():
        parameter.mul_(factor)


def _zero(module: nn.Module) -> None:
    for parameter in module.parameters(recurse=False):
        nn.init.zeros_(parameter)
