"""Looking into a network without changing it: what its layers put out, and evaluation mode."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

from torch import Tensor, nn

from pipeline.models.attention import Attention

# Attention weights are constant whose sd over images is at most this share of their mean. Networks
# are trained in bfloat16, which rounds by up to 0.4 % (2**-8): what varies by less than about two
# such steps can't be distinguished from rounding.
CONSTANT_BELOW = 0.01


@contextmanager
def forward_hooks(
    layers: Mapping[str, nn.Module], hook: Callable[[str, nn.Module, Any, Any], Any]
) -> Iterator[None]:
    """Call `hook` after each forward pass of a layer while the context is open.

    It gets the layer's name, the module, the tuple of its inputs, and its output.
    """
    with ExitStack() as hooks:
        for name, layer in layers.items():
            hooks.callback(layer.register_forward_hook(partial(hook, name)).remove)
        yield


@contextmanager
def record_outputs(layers: Mapping[str, nn.Module]) -> Iterator[dict[str, Tensor]]:
    """Yield a dictionary that each forward pass fills with one output (B, C, H, W) per layer."""
    outputs: dict[str, Tensor] = {}

    def record(name: str, module: nn.Module, inputs: Any, output: Tensor) -> None:
        outputs[name] = output.detach()

    with forward_hooks(layers, record):
        yield outputs


@contextmanager
def record_weights(modules: Mapping[str, Attention]) -> Iterator[dict[str, Tensor]]:
    """Record the weights that attention `modules` give while the context is open.

    Yields:
        a dictionary that each forward pass fills, with weights as `Attention.weights` gives them.
    """
    weights: dict[str, Tensor] = {}

    def record(name: str, module: nn.Module, inputs: tuple[Tensor, ...], output: Any) -> None:
        weights[name] = modules[name].weights(inputs[0]).detach()

    with forward_hooks(modules, record):
        yield weights


@contextmanager
def frozen_eval(network: nn.Module) -> Iterator[None]:
    """Run a network in evaluation mode, without gradients of its parameters; then as it was."""
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
