"""Any classifier of torchvision or timm by its name, with random weights, and where theirs are.

Both libraries' networks are made for photographs of some 224 pixels. `small_inputs` adapts the stem
of a convolutional network to small images, as He et al., "Deep Residual Learning for Image
Recognition", https://arxiv.org/abs/1512.03385, section 4.2, do for CIFAR-10.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.models.attention import Attention, Kind
from pipeline.models.inspection import forward_hooks, frozen_eval
from pipeline.models.layers import Classifier
from pipeline.system.errors import InputError, suggestion

MOST_FEATURE_LAYERS = 6
NORMS = (nn.BatchNorm2d, nn.GroupNorm)  # and timm's, which activate besides
MOST_STEM_CONVOLUTIONS = 3  # before the stem's pool: some stems are three 3x3 instead of one 7x7
SIZES = range(32, 513, 32)  # in pixels: what to propose where images are too small

Constructor = Callable[[int], nn.Module]  # takes the images' size in pixels

# Of the libraries' attention modules, by the name of their class: the child that puts out the
# weights, and what these weight. SqueezeExcitation is torchvision's, the others are timm's.
GATES: dict[str, tuple[str, Kind]] = {
    "SqueezeExcitation": ("scale_activation", "channel"),
    "SEModule": ("gate", "channel"),
    "SqueezeExcite": ("gate", "channel"),
    "EffectiveSEModule": ("gate", "channel"),
    "EcaModule": ("gate", "channel"),
    "CecaModule": ("gate", "channel"),
    "ChannelAttn": ("gate", "channel"),
    "SpatialAttn": ("gate", "spatial"),
}


class LibraryGate(Attention):
    """A library's gate, a module without parameters: what it puts out are the weights."""

    def __init__(self, gate: nn.Module, kind: Kind) -> None:
        super().__init__()
        self.gate = gate
        self.kind = kind

    def weights(self, x: Tensor) -> Tensor:
        """Return the weights for the gate's input `x`: (B, C) of channels, else (B, 1, H, W)."""
        return self.gate(x).flatten(1) if self.kind == "channel" else self.gate(x)

    def reweighted(self, x: Tensor, weights: Tensor) -> Tensor:
        """Return the weights, in the shape of the gate's input `x`; the library applies them."""
        return weights.expand(len(x), *weights.shape[1:]).reshape(x.shape)

    def forward(self, x: Tensor) -> Tensor:
        """Return what the gate puts out."""
        return self.gate(x)


class LibraryClassifier(Classifier):
    """A library's network behind this project's interface.

    Args:
        network: maps (B, C, H, W) to logits (B, K).
        layers: the names of its feature layers, shallow to deep.
        activations: for each of them the name of the module that activates its maps, or its own.
    """

    def __init__(
        self, network: nn.Module, layers: Sequence[str], activations: Sequence[str]
    ) -> None:
        super().__init__()
        self.network = network
        self.layers = tuple(layers)
        self.activations = tuple(activations)

    def forward(self, images: Tensor) -> Tensor:
        """Map images (B, C, H, W) to logits (B, K)."""
        return self.network(images)

    def feature_layers(self) -> dict[str, nn.Module]:
        """Return the first convolution, then the last module of each map size; six at most.

        They have the library's names, such as conv1, layer1, ..., layer4 of a ResNet.
        """
        return {name: self.network.get_submodule(name) for name in self.layers}

    def activation_layers(self) -> dict[str, nn.Module]:
        """Return the feature layers, or what norms and activates their maps directly after them.

        That is known of modules that stand in one sequence: features.1 after features.0 of a VGG.
        A DenseNet's last norm is followed by an activation that is no module, but works in place.
        """
        return {name: self.network.get_submodule(name) for name in self.activations}

    def attention_layers(self) -> dict[str, Attention]:
        """Return the modules of `GATES`, by the library's names, such as layer1.0.se.

        Of other attention, such as a transformer's, the library gives no weights.
        """
        return {
            name.rpartition(".")[0]: module
            for name, module in self.network.named_modules()
            if isinstance(module, Attention)
        }


def torchvision_classifier(
    num_classes: int,
    image_size: int,
    in_channels: int = 3,
    *,
    name: str,
    small_inputs: bool = False,
) -> LibraryClassifier:
    """Return a classifier of torchvision with random weights.

    The first three arguments are those of `models.registry.build`. `small_inputs` makes the first
    convolution 3x3 with stride 1, without the pool after it.

    Raises:
        InputError: if there is no such network, it doesn't take images of this size, or it has no
            stem to adapt.
    """
    from torchvision import models  # takes seconds, and most runs don't need it

    names = models.list_models(module=models)
    if name not in names:
        listing = "torchvision.models.list_models(module=torchvision.models)"
        raise _unknown(name, names, "torchvision", listing)

    def make(size: int) -> nn.Module:
        arguments: dict[str, Any] = {}
        if name in ("googlenet", "inception_v3"):
            arguments = {"aux_logits": False, "init_weights": True}
        elif name.startswith("vit_"):
            arguments = {"image_size": size}
        elif name.startswith("maxvit_"):
            arguments = {"input_size": (size, size)}
        network = models.get_model(name, weights=None, num_classes=num_classes, **arguments)
        if in_channels != 3:
            _replace_stem(network, in_channels)
        return network

    return _classifier(make, name, num_classes, image_size, in_channels, small_inputs)


def timm_classifier(
    num_classes: int,
    image_size: int,
    in_channels: int = 3,
    *,
    name: str,
    small_inputs: bool = False,
) -> LibraryClassifier:
    """Return a classifier of timm with random weights; the arguments are as for torchvision's.

    Raises:
        InputError: for the reasons that torchvision's has, or if timm is not installed.
    """
    try:
        import timm
    except ImportError:
        raise InputError(
            "architectures: family: 'timm' needs a package that is not installed here: "
            "pip install timm"
        ) from None

    names = timm.list_models()
    if name not in names:
        raise _unknown(name, names, "timm", "timm.list_models()")
    configuration = timm.get_pretrained_cfg(name)
    sized = configuration is not None and configuration.fixed_input_size

    def make(size: int) -> nn.Module:
        arguments: dict[str, Any] = {"img_size": size} if sized else {}
        return timm.create_model(
            name, pretrained=False, num_classes=num_classes, in_chans=in_channels, **arguments
        )

    return _classifier(make, name, num_classes, image_size, in_channels, small_inputs)


def weights_url(library: str, name: str) -> str | None:
    """Return where `library` has its own weights of the network `name`; None if nowhere.

    Raises:
        InputError: if there is no such network.
    """
    if library == "torchvision":
        from torchvision import models

        url: str = models.get_model_weights(name).DEFAULT.url
        return url
    import timm

    configuration = timm.get_pretrained_cfg(name)
    if configuration is None:
        return None
    if isinstance(configuration.url, str) and configuration.url:
        return configuration.url
    if not configuration.hf_hub_id:
        return None
    filename = configuration.hf_hub_filename or "model.safetensors"
    return f"https://huggingface.co/{configuration.hf_hub_id}/resolve/main/{filename}"


def _unknown(name: str, names: Sequence[str], library: str, listing: str) -> InputError:
    return InputError(
        f"architectures: name: '{name}' is not one of {library}'s {len(names)} classifiers"
        f"{suggestion(name, names)}; {listing} lists them"
    )


def _classifier(
    make: Constructor,
    name: str,
    num_classes: int,
    image_size: int,
    in_channels: int,
    small_inputs: bool,
) -> LibraryClassifier:
    """Make the network and find its feature layers by running it once."""

    def adapted(size: int) -> LibraryClassifier:
        network = make(size)
        if small_inputs:
            _adapt_stem(network, in_channels)
        _make_exact(network)
        _wrap_gates(network)
        layers, activations = _layers(network, torch.zeros(2, in_channels, size, size), num_classes)
        return LibraryClassifier(network, layers, activations)

    try:
        return adapted(image_size)
    except Exception as error:  # of any kind: it is the library's
        size = f"{image_size}x{image_size}"
        larger = _larger_size(adapted, image_size)
        if larger is not None:
            reason = (
                f"name: '{name}' with small_inputs {str(small_inputs).lower()} does not take "
                f"images of {size} pixels; set data.image_size to {larger}, which it takes"
            )
        elif small_inputs:
            reason = (
                f"small_inputs: true, but name '{name}' has no convolutional stem that can be "
                "adapted; set small_inputs to false"
            )
        else:
            first_line = str(error).strip().partition("\n")[0]
            reason = (
                f"name: '{name}' does not take images of {size} pixels ({first_line}); take "
                "another network or another data.image_size"
            )
        raise InputError(f"architectures: {reason}") from None


def _larger_size(make: Constructor, image_size: int) -> int | None:
    """Return a size in pixels above `image_size` that the network takes; None if none is found."""
    for size in SIZES:
        if size > image_size:
            # shapes alone, nothing is computed; an error of any kind is the library's
            with suppress(Exception), torch.device("meta"):
                make(size)
                return size
    return None


def _stem(network: nn.Module) -> tuple[str, nn.Conv2d]:
    """Return the first convolution and its name."""
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d):
            return name, module
    raise ValueError("it has no convolution")


def _replace_stem(network: nn.Module, in_channels: int, **changes: Any) -> None:
    """Put a new first convolution in the place of the old one.

    Its weights are drawn as those of a ResNet: He et al., https://arxiv.org/abs/1502.01852.
    """
    name, old = _stem(network)
    geometry = {
        "kernel_size": old.kernel_size,
        "stride": old.stride,
        "padding": old.padding,
        "bias": old.bias is not None,
    }
    conv = nn.Conv2d(in_channels, old.out_channels, **(geometry | changes))
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)
    network.set_submodule(name, conv)


def _adapt_stem(network: nn.Module, in_channels: int) -> None:
    """Let the stem keep the size of the images; one whose convolution does so is left alone."""
    if _stem(network)[1].stride == (1, 1):
        return
    _replace_stem(network, in_channels, kernel_size=3, stride=1, padding=1)
    convolutions = 0
    for name, module in network.named_modules():
        convolutions += isinstance(module, nn.Conv2d)
        if convolutions > MOST_STEM_CONVOLUTIONS:
            return
        if isinstance(module, nn.MaxPool2d):
            network.set_submodule(name, nn.Identity())
            return


class _AveragePool(nn.Module):
    """Adaptive average pooling by matrix products: PyTorch's is not deterministic on a GPU."""

    def __init__(self, height: int, width: int) -> None:
        super().__init__()
        self.height = height
        self.width = width

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, C, height, width)."""
        down = _averaging(self.height, x.shape[2]).to(x)  # (height, H)
        across = _averaging(self.width, x.shape[3]).to(x)  # (width, W)
        return down @ x @ across.T  # (B, C, height, width)


def _averaging(outputs: int, inputs: int) -> Tensor:
    """Return the matrix (outputs, inputs) that averages the inputs of each output."""
    matrix = torch.zeros(outputs, inputs)
    for row in range(outputs):
        first, end = row * inputs // outputs, -(-(row + 1) * inputs // outputs)
        matrix[row, first:end] = 1 / (end - first)
    return matrix


def _make_exact(network: nn.Module) -> None:
    """Let nothing be computed in place, which hooks would see, nor sums be added in any order."""
    for name, module in list(network.named_modules()):
        if getattr(module, "inplace", False):
            module.inplace = False
        size: Any = getattr(module, "output_size", None)  # a number or a pair
        if isinstance(module, nn.AdaptiveAvgPool2d) and size not in (1, (1, 1)):
            height, width = size if isinstance(size, tuple) else (size, size)
            network.set_submodule(name, _AveragePool(height, width))


def _wrap_gates(network: nn.Module) -> None:
    """Wrap the gates of `GATES`; no name in the state dict changes, as they have no parameters."""
    for name, module in list(network.named_modules()):
        child, kind = GATES.get(type(module).__name__, ("", "channel"))
        gate = dict(module.named_children()).get(child)
        if gate is not None and not gate.state_dict():
            network.set_submodule(f"{name}.{child}", LibraryGate(gate, kind))


def _layers(network: nn.Module, images: Tensor, num_classes: int) -> tuple[list[str], list[str]]:
    """Run the network and return the names of its feature layers and of their activations.

    The feature layers are the first convolution, and of the modules beside and after it the last of
    each map size; of more than `MOST_FEATURE_LAYERS` the first and the deepest.
    """
    sizes, keeping = _map_sizes(network, images, num_classes)
    stem = _stem(network)[0]
    chosen: list[str] = []
    for name in sorted(_trunk(network, stem, sizes), key=list(sizes).index):
        if not chosen or sizes[name] != sizes[chosen[-1]]:
            chosen.append(name)
        elif _convolves(network, name) or not _convolves(network, chosen[-1]):
            chosen[-1] = name
    layers = [stem, *[name for name in chosen if name != stem][1 - MOST_FEATURE_LAYERS :]]
    return layers, [_activation(network, name, keeping) for name in layers]


def _activation(network: nn.Module, name: str, keeping: set[str]) -> str:
    """Return the last of the modules directly after `name` that only norm or activate its maps.

    Its own name if there is none, or it doesn't stand in a sequence.
    """
    holder, _, child = name.rpartition(".")
    if not isinstance(network.get_submodule(holder), nn.Sequential):
        return name
    siblings = [sibling for sibling, _ in network.get_submodule(holder).named_children()]
    for sibling in siblings[siblings.index(child) + 1 :]:
        for after in _steps(network, f"{holder}.{sibling}".lstrip(".")):
            module = network.get_submodule(after)
            weighs = next(module.parameters(), None) is not None
            if after not in keeping or (weighs and not isinstance(module, NORMS)):
                return name
            name = after
    return name


def _steps(network: nn.Module, name: str) -> Iterator[str]:
    """Yield the modules that a sequence runs one after the other; of any other, itself."""
    module = network.get_submodule(name)
    if isinstance(module, nn.Sequential):
        for child, _ in module.named_children():
            yield from _steps(network, f"{name}.{child}")
    else:
        yield name


def _map_sizes(
    network: nn.Module, images: Tensor, num_classes: int
) -> tuple[dict[str, int], set[str]]:
    """Return the height of the maps that modules put out, in the order in which they finish.

    Left out are modules without weights, unless they make maps of what was none before, such as
    tokens, and the module that gives the logits. Also return the modules, with or without weights,
    whose maps are as large and as many as those that they are given.
    """
    sizes: dict[str, int] = {}
    keeping: set[str] = set()
    perhaps_logits: dict[str, Tensor] = {}

    def record(name: str, module: nn.Module, inputs: Any, output: Any) -> None:
        weighs = next(module.parameters(), None) is not None
        if _is_map(output) and (weighs or not _is_map(inputs[0])):
            sizes[name] = output.shape[2]
            if output[0].numel() == num_classes:
                perhaps_logits[name] = output
        if inputs and _is_map(inputs[0]) and _is_map(output) and output.shape == inputs[0].shape:
            keeping.add(name)

    modules = {name: module for name, module in network.named_modules() if name}
    with frozen_eval(network), torch.no_grad(), forward_hooks(modules, record):
        logits = network(images)
    if not isinstance(logits, Tensor) or logits.shape != (len(images), num_classes):
        raise ValueError("it does not give one logit for each class")
    for name, output in perhaps_logits.items():
        if output.untyped_storage()._cdata == logits.untyped_storage()._cdata:
            del sizes[name]
    return sizes, keeping


def _is_map(value: Any) -> bool:
    """Tell maps (B, C, H, W) of square images from tokens, vectors and (B, H, W, C)."""
    return isinstance(value, Tensor) and value.ndim == 4 and value.shape[2] == value.shape[3]


def _convolves(network: nn.Module, name: str) -> bool:
    return any(isinstance(module, nn.Conv2d) for module in network.get_submodule(name).modules())


def _trunk(network: nn.Module, stem: str, sizes: dict[str, int]) -> Iterator[str]:
    """Yield the stem, and the modules that stand beside it or beside a module that holds it."""
    yield stem
    holder = ""
    for part in stem.split("."):
        for child, _ in network.get_submodule(holder).named_children():
            if child != part:
                yield from _stages(network, f"{holder}.{child}".lstrip("."), sizes)
        holder = f"{holder}.{part}".lstrip(".")


def _stages(network: nn.Module, name: str, sizes: dict[str, int]) -> Iterator[str]:
    """Yield a module that gives maps; in the place of a sequence of stages, the stages."""
    module = network.get_submodule(name)
    children = [f"{name}.{child}" for child, _ in module.named_children()]
    passed = {sizes[child] for child in children if child in sizes}
    if isinstance(module, nn.Sequential) and len(passed) > 2:
        for child in children:
            yield from _stages(network, child, sizes)
    elif name in sizes:
        yield name
