"""Looking into a network without changing it: what its layers put out, and evaluation mode."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

from torch import Tensor, nn


@contextmanager
def forward_hooks(
    layers: Mapping[str, nn.Module], hook: Callable[[str, nn.Module, Any, Any], Any]
) -> Iterator[None]:
    """Call `hook` after each forward pass of a layer while the context is open.

    Args:
        layers: modules by name.
        hook: gets the name, the module, the tuple of its inputs, and its output. The hooks come off
            when the context closes, also after an error.
    """
    with ExitStack() as hooks:
        for name, layer in layers.items():
            hooks.callback(layer.register_forward_hook(partial(hook, name)).remove)
        yield


@contextmanager
def record_outputs(layers: Mapping[str, nn.Module]) -> Iterator[dict[str, Tensor]]:
    """Record what `layers` put out while the context is open.

    Yields:
        a dictionary that each forward pass fills with one (B, C, H, W) tensor per layer.
    """
    outputs: dict[str, Tensor] = {}

    def record(name: str, module: nn.Module, inputs: Any, output: Tensor) -> None:
        outputs[name] = output.detach()

    with forward_hooks(layers, record):
        yield outputs


@contextmanager
def frozen_eval(network: nn.Module) -> Iterator[None]:
    """Run a network in evaluation mode and without gradients of its parameters.

    Each module and parameter is then put back into the mode that it had.
    """
    modes = [(module, module.training) for module in network.modules()]
    trainable = [(parameter, parameter.requires_grad) for parameter in network.parameters()]
    network.eval()
    network.requires_grad_(False)
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
        for parameter, requires_grad in trainable:
            parameter.requires_grad_(requires_grad)
