"""export: one trained network as a file that needs nothing of this project."""

from __future__ import annotations

import contextlib
import json
import logging
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pipeline.commands.checks import check_folder, check_trained
from pipeline.data import arrays
from pipeline.data.arrays import Dataset
from pipeline.settings.schema import Settings
from pipeline.storage.atomic import atomic_file
from pipeline.system import provenance
from pipeline.system.errors import InputError, StageError, choose
from pipeline.training import compute
from pipeline.training.batches import plain_batches, to_device
from pipeline.training.networks import trained
from pipeline.training.prediction import predict

IMAGES = 32  # of the test split, to compare the exported network on
BATCH_SIZES = (1, IMAGES)
TOLERANCE = 1e-4  # of the largest logit, or of 1 if that is larger

ANY_BATCH = {0: torch.export.Dim("batch", min=1)}  # the first axis may have any size

INPUT = "images"
OUTPUT = "logits"

Network = Callable[[np.ndarray], np.ndarray]  # images float32 (B, C, H, W) in [0, 1] to logits


class Normalising(nn.Module):
    """A network with the normalisation of its images inside.

    `mean` and `std` are float32 (C,), for images in [0, 1].
    """

    mean: Tensor
    std: Tensor

    def __init__(self, network: nn.Module, mean: np.ndarray, std: np.ndarray) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        """Map images (B, C, H, W) in [0, 1] to logits (B, K)."""
        return self.network((images - self.mean) / self.std)


@dataclass(frozen=True)
class Format:
    """A kind of file that a network can be exported to."""

    ending: str  # of the file's name
    # ``write(network, example, metadata, path)``; `example` is a batch of two images
    write: Callable[[nn.Module, Tensor, dict[str, Any], Path], None]
    load: Callable[[Path], Network]  # runs the network by what the format is made for
    packages: tuple[str, ...]  # that it needs besides PyTorch


@dataclass(frozen=True)
class Exported:
    """A file that was written, read again and compared."""

    path: Path
    difference: float  # the largest between its logits and the original's
    largest: float  # the largest logit of the original
    images: int  # test images that were compared

    @property
    def allowed(self) -> float:
        """The largest difference that rounding explains."""
        return TOLERANCE * max(1.0, self.largest)


def run(
    settings: Settings,
    model: str,
    seed: int,
    splits: Path,
    weights: Path,
    file_format: str,
    out: Path | None,
) -> Exported:
    """Export the network of one training run, and compare what was written with the original.

    The exported network takes float32 images (B, C, H, W) in [0, 1], any number at a time, and
    returns logits (B, K). The file holds as JSON, by name: model, seed, classes, image_size,
    channels, mean, std, splits (their fingerprint), version (the commit of this code, None without
    git) and torch (its version).

    `weights` is the ``model.safetensors`` of the run, `file_format` a name in `FORMATS`. A file
    `out` that is there is replaced; it is ``exports/MODEL-SEED`` and the format's ending if None.

    Raises:
        InputError: if the network isn't trained, weights or splits are corrupt or don't fit the
            settings, a package is missing, or `out` is of another format or lies in no folder.
        StageError: if the network can't be exported, or the file's logits differ from the
            original's by more than rounding; no file is left then.
    """
    chosen = FORMATS[choose(file_format, FORMATS, "--format")]
    path = out or Path("exports") / f"{model}-{seed}{chosen.ending}"
    if seed not in settings.seeds:
        seeds = ", ".join(map(str, settings.seeds))
        raise InputError(f"--seed: {seed} is not one of {seeds}, the seeds of params.yaml")
    if path.suffix != chosen.ending:
        raise InputError(f"--out: '{path}' has to end in {chosen.ending} for this format")
    if path.is_dir():
        raise InputError(f"--out: '{path}' is a folder; name a file in it")
    check_folder(path.parent)
    missing = [package for package in chosen.packages if find_spec(package) is None]
    if missing:
        raise InputError(
            f"--format: needs packages that are not installed here ({', '.join(missing)}): "
            f"python -m pip install {' '.join(chosen.packages)}"
        )
    check_trained(model, seed, weights)

    dataset = arrays.read(splits, settings).for_run(seed)
    on_cpu = settings.compute.model_copy(update={"device": "cpu"})
    with compute.prepare(on_cpu, precision="fp32") as hardware:
        network = trained(settings, model, weights, dataset, hardware)
        network.to(memory_format=torch.contiguous_format)
        test = to_device(dataset, "test", hardware.device)
        test = test.subset(torch.arange(min(IMAGES, len(test))))
        images = test.pixels(slice(None)).permute(0, 3, 1, 2).float().div(255).contiguous()
        ((logits, _),) = predict(network, plain_batches(test, len(test)), hardware)

        exportable = Normalising(network, dataset.mean, dataset.std).eval().requires_grad_(False)
        example, metadata = torch.zeros(2, *images.shape[1:]), _metadata(model, seed, dataset)
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(path) as incomplete, _quiet(), torch.no_grad():
            try:
                chosen.write(exportable, example, metadata, incomplete)
            except OSError:
                raise
            except Exception as error:  # of any kind: it is the exporter's
                reason = " ".join(str(error).split())[:300]
                raise StageError(
                    f"{path.name}: not written: PyTorch can't export this network to this format "
                    f"({type(error).__name__}: {reason})"
                ) from None
            load, difference = chosen.load(incomplete), 0.0
            for size in BATCH_SIZES:
                parts = [load(batch.numpy()) for batch in images.split(size)]
                differences = np.abs(np.concatenate(parts) - logits.numpy())
                difference = float(np.maximum(difference, differences.max()))  # NaN stays
            exported = Exported(path, difference, float(logits.abs().max()), len(images))
            if not difference <= exported.allowed:
                raise StageError(
                    f"{path}: not written: the exported {model} gives logits that differ by "
                    f"{difference:.2g} from the original's, more than {exported.allowed:.1g}"
                )
    return exported


def _metadata(model: str, seed: int, dataset: Dataset) -> dict[str, Any]:
    commit = provenance.commit(Path(__file__).parents[2])
    return {
        "model": model,
        "seed": seed,
        "classes": dataset.classes,
        "image_size": dataset.image_size,
        "channels": dataset.channels,
        "mean": dataset.mean.astype(float).round(8).tolist(),
        "std": dataset.std.astype(float).round(8).tolist(),
        "splits": dataset.fingerprint,
        "version": commit.name + " (changed)" * commit.changed or None,
        "torch": torch.__version__,
    }


def _write_onnx(network: nn.Module, example: Tensor, metadata: dict[str, Any], path: Path) -> None:
    import onnx

    torch.onnx.export(
        network,
        (example,),
        path,
        input_names=[INPUT],
        output_names=[OUTPUT],
        dynamic_shapes=(ANY_BATCH,),
        dynamo=True,
        external_data=False,
        verbose=False,
    )
    model = onnx.load(path)
    texts = {name: json.dumps(value) for name, value in metadata.items()}
    onnx.helper.set_model_props(model, texts)
    onnx.checker.check_model(model)
    onnx.save(model, path)


def _load_onnx(path: Path) -> Network:
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return lambda images: session.run([OUTPUT], {INPUT: images})[0]


def _write_pt2(network: nn.Module, example: Tensor, metadata: dict[str, Any], path: Path) -> None:
    program = torch.export.export(network, (example,), dynamic_shapes=(ANY_BATCH,))
    extra_files = {"metadata.json": json.dumps(metadata, indent=2)}
    torch.export.save(program, path, extra_files=extra_files)


def _load_pt2(path: Path) -> Network:
    network = torch.export.load(path).module()
    return lambda images: network(torch.from_numpy(images)).numpy()


FORMATS = {
    "onnx": Format(".onnx", _write_onnx, _load_onnx, ("onnx", "onnxscript", "onnxruntime")),
    "pt2": Format(".pt2", _write_pt2, _load_pt2, ()),
}


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporters' messages off the terminal; the comparison shows whether it worked."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(None):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
