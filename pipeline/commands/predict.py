"""predict: classify other images by the trained networks of all seeds together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from pipeline.commands.checks import check_folder, check_trained
from pipeline.commands.prediction_answers import Answer, Failure, Prediction
from pipeline.commands.prediction_figure import draw_prediction, own_path, save
from pipeline.commands.prediction_images import list_images, read_image
from pipeline.data import arrays
from pipeline.data.arrays import Dataset
from pipeline.data.augmentation import normalise
from pipeline.data.sources.decoding import UndecodableError
from pipeline.evaluation.ensembles import mean_probabilities
from pipeline.explain.cam import cam_layers, class_activation_maps
from pipeline.figures.fonts import drawn_names, fonts_wanted
from pipeline.models.layers import Classifier
from pipeline.settings.schema import Settings
from pipeline.system.progress import say, track
from pipeline.system.text import printable
from pipeline.training import compute
from pipeline.training.networks import trained


@dataclass(frozen=True)
class Member:
    """The network of one seed, with what its images are normalised by."""

    network: Classifier  # in evaluation mode
    mean: np.ndarray  # float32 (C,), for images in [0, 1]
    std: np.ndarray  # float32 (C,)
    layer: nn.Module  # of the network, at which Grad-CAM is taken

    def inputs(self, pixels: Tensor) -> Tensor:
        """Return what the network takes, float32 (B, C, H, W), for uint8 (B, H, W, C)."""
        return normalise(pixels.permute(0, 3, 1, 2).float().div(255), self.mean, self.std)


def run(
    settings: Settings,
    model: str,
    given: Sequence[Path],
    splits: Path,
    weights: Path,
    out: Path,
    top: int,
) -> list[Answer]:
    """Classify images, and draw for each where the network sees its class.

    The probabilities are the mean over the networks of all seeds. The images are decoded as those
    of the data set. A file that can't be classified is reported on one line and skipped.

    `given` are image files, and folders of them; `weights` is the folder with
    ``<seed>/model.safetensors`` of the training runs, `out` that for the figures, made if there is
    none; `top` is how many classes to return.

    Returns:
        One answer for each image, in the order of `given`.

    Raises:
        InputError: if a network is not trained, or weights or splits are corrupt or don't fit
            the settings, or a folder of images can't be read, or `out` can't be a folder.
    """
    check_folder(out)
    dataset = arrays.read(splits, settings)
    files = {seed: weights / str(seed) / "model.safetensors" for seed in settings.seeds}
    for seed, path in files.items():
        check_trained(model, seed, path)
    paths = list_images(given, out)
    if wanted := fonts_wanted(dataset.classes):
        names = zip(drawn_names(dataset.classes), map(printable, dataset.classes), strict=True)
        numbers = ", ".join(f"{drawn} is {name}" for drawn, name in names if drawn != name)
        say(f"no installed font has all names, so in figures {numbers}; {wanted[0]} would help")
    size, channels = dataset.image_size, dataset.channels
    members = []
    with compute.prepare(settings.compute, precision="fp32") as hardware:
        blank = torch.zeros(1, channels, size, size, device=hardware.device)
        for seed, path in files.items():
            seed_dataset = dataset.for_run(seed)
            network = trained(settings, model, path, seed_dataset, hardware)
            layer = network.activation_layers()[cam_layers(network, blank)["grad_cam"]]
            members.append(Member(network, seed_dataset.mean, seed_dataset.std, layer))
        # One by one: matrix products treat the rows of a batch differently, so that the last bits
        # of an image's logits depend on its row. Drawing takes far longer than a batch would save.
        return [
            _answer(members, model, dataset, path, out, top, hardware.device)
            for path in track(paths, f"{model}: images")
        ]


def _answer(
    members: Sequence[Member],
    model: str,
    dataset: Dataset,
    path: Path,
    out: Path,
    top: int,
    device: torch.device,
) -> Answer:
    """Read, classify and draw an image."""
    try:
        image = read_image(path, dataset.image_size, dataset.channels)
    except UndecodableError as reason:
        say(f"{printable(str(path))}: {reason}")
        return Failure(path, str(reason))
    pixels = torch.tensor(image.pixels)[None].to(device)  # a copy: they are read-only
    with torch.inference_mode():
        answers = [member.network(member.inputs(pixels)) for member in members]
    logits = torch.stack(answers).cpu().numpy()  # (M, 1, K)
    probabilities = mean_probabilities(logits)[0]  # (K,)
    ranking = np.argsort(-probabilities, kind="stable")[:top]
    prediction = Prediction(
        file=path,
        classes=tuple(dataset.classes[label] for label in ranking),
        drawn=tuple(drawn_names(dataset.classes)[label] for label in ranking),
        probabilities=tuple(probabilities[ranking].tolist()),
        agreeing=int((logits[:, 0].argmax(axis=1) == ranking[0]).sum()),
        members=len(members),
        figure=own_path(out, path),
    )
    targets = torch.from_numpy(ranking[:1]).to(device)
    maps = [
        class_activation_maps(one.network, "grad_cam", one.layer, one.inputs(pixels), targets)[0]
        for one in members
    ]  # (h, w) each
    figure = draw_prediction(model, prediction, image.shown, np.mean(maps, axis=0))
    save(figure, prediction)
    return prediction
