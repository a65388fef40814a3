"""Starting from weights that were trained before, and keeping them as they are for some epochs."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import torch
from torch import nn

from pipeline.data.arrays import Dataset
from pipeline.models import registry
from pipeline.models.layers import Classifier
from pipeline.models.transfer import head_of, transfer
from pipeline.settings.schema import Settings
from pipeline.storage.records import Pretrained
from pipeline.system.errors import InputError
from pipeline.training import start_files
from pipeline.training.weights import check_values

ANOTHER = "name another file in params.yaml"


def start(
    network: Classifier, settings: Settings, model: str, dataset: Dataset, downloads: Path
) -> tuple[Pretrained, frozenset[str]]:
    """Load the weights that `architectures` name for `model` into `network`, on the CPU or a GPU.

    Args:
        network: with random weights; its last layer, and all that the file doesn't have, keeps
            them.
        settings: all of params.yaml.
        model: a key of `settings.architectures`, which names weights.
        dataset: whose images and classes the network is for.
        downloads: the folder for a library's own weights.

    Returns:
        what a report says of it, and the names of the parameters and buffers that come from there.

    Raises:
        InputError: if there is no such file, its checksum is another, it holds anything but finite
            weights, or it is of another network.
    """
    architecture = settings.architectures[model]
    file = start_files.read(model, architecture, downloads)
    check_values(file.state, {}, file.path, ANOTHER)

    def build(num_classes: int) -> Classifier:
        content = architecture.model_dump()
        return registry.build(content, num_classes, dataset.image_size, dataset.channels)

    head = head_of(build, len(dataset.classes))
    size = torch.Size([dataset.channels, dataset.image_size, dataset.image_size])
    try:
        done = transfer(network, file.state, head, size)
    except InputError as error:
        raise InputError(
            f"params.yaml: architectures.{model}.weights: '{file.path}' {error}"
        ) from None
    record = Pretrained(
        file=file.path.name,
        sha256=file.sha256,
        taken=len(done.taken),
        adapted=done.adapted,
        rescaled=done.rescaled,
        made_new=done.made_new,
        left_out=done.left_out,
    )
    return record, done.body


def keep_statistics(model: nn.Module, body: Collection[str]) -> None:
    """Let modules with parameters or buffers of the `body` compute as in evaluation.

    So batch norm uses its moving averages and leaves them alone. Modules below them are not meant.
    """
    for prefix, module in model.named_modules():
        tensors = (*module._parameters, *module._buffers)
        if any(f"{prefix}.{name}".lstrip(".") in body for name in tensors):
            module.training = False
