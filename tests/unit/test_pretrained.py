"""Starting from weights: what is taken of a file, what is refused, and what stays frozen."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torchvision import models as torchvision_models

from pipeline.data import writing
from pipeline.data.arrays import Dataset
from pipeline.models import registry
from pipeline.models.layers import Classifier
from pipeline.models.library import weights_url
from pipeline.models.transfer import Transfer, head_of, transfer
from pipeline.settings import load, presets
from pipeline.settings.schema import Settings, Train
from pipeline.system.errors import InputError
from pipeline.training import start_files
from pipeline.training.batches import to_device
from pipeline.training.checkpoints import Checkpoints
from pipeline.training.loop import Epoch, train
from pipeline.training.pretrained import start
from pipeline.training.recipe import OPTIMIZERS, Schedule, parameter_groups
from tests.unit.made_processes import CPU, DEVICE, KilledError, digits

DEFAULT = presets.load("digits")
CNN = DEFAULT.architectures["cnn"].model_dump()
DENSENET = DEFAULT.architectures["densenet"].model_dump()
RESNET = {"family": "torchvision", "name": "resnet18", "small_inputs": False}


def settings(**architecture: Any) -> Settings:
    """Settings of one architecture, named `tuned`."""
    content = DEFAULT.model_dump() | {"model": "tuned", "architectures": {"tuned": architecture}}
    return load.check(content)


def images_of(size: int, channels: int, classes: int = 5) -> Dataset:
    return Dataset(
        name="made",
        images=np.zeros((1, size, size, channels), np.uint8),
        labels=np.zeros(1, np.int64),
        ids=np.arange(1),
        split=np.array(["train"]),
        classes=tuple("abcdefgh"[:classes]),
        mean=np.zeros(channels, np.float32),
        std=np.ones(channels, np.float32),
        counts={},
        rejected=0,
    )


def experienced(network: nn.Module) -> nn.Module:
    """The network as if it had been trained: norms are no longer what they begin as."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.weight.normal_(1, 0.3, generator=generator)
                module.bias.normal_(0, 0.3, generator=generator)
                assert module.running_mean is not None
                assert module.running_var is not None
                module.running_mean.normal_(0, 0.3, generator=generator)
                module.running_var.uniform_(0.5, 2, generator=generator)
    return network.eval()


def torchvision_file(folder: Path, suffix: str) -> tuple[nn.Module, Path]:
    """A real ResNet-18 of torchvision's with 1,000 classes, saved as a person would."""
    torch.manual_seed(11)
    network = experienced(torchvision_models.resnet18())
    path = folder / f"resnet18{suffix}"
    if suffix == ".safetensors":
        save_file(network.state_dict(), path)
    else:
        torch.save(network.state_dict(), path)
    return network, path


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def pinned(architecture: dict[str, Any], path: Path) -> Settings:
    return settings(**architecture, weights=str(path), sha256=sha256(path))


def started(chosen: Settings, dataset: Dataset, folder: Path) -> tuple[Classifier, Any, frozenset]:
    architecture = chosen.architectures["tuned"].model_dump()
    torch.manual_seed(3)
    network = registry.build(
        architecture, len(dataset.classes), dataset.image_size, dataset.channels
    )
    record, body = start(network, chosen, "tuned", dataset, folder)
    return network.eval(), record, body


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_torchvisions_own_network_gives_the_same_features_here(tmp_path: Path, suffix: str) -> None:
    original, path = torchvision_file(tmp_path, suffix)
    network, record, body = started(pinned(RESNET, path), images_of(64, 3), tmp_path)
    images = torch.randn(4, 3, 64, 64)
    original.fc, network.network.fc = nn.Identity(), nn.Identity()  # what the last layer gets
    with torch.no_grad():
        assert torch.equal(network(images), original(images))
    assert record.sha256 == sha256(path)
    assert record.made_new == record.left_out == ["network.fc.weight", "network.fc.bias"]
    assert len(body) == record.taken == 120  # of ResNet-18's 122 tensors


def test_on_grey_images_the_network_computes_what_it_did_on_them_in_rgb(tmp_path: Path) -> None:
    original, path = torchvision_file(tmp_path, ".pth")
    network, record, _ = started(pinned(RESNET, path), images_of(64, 1), tmp_path)
    grey = torch.randn(4, 1, 64, 64)
    original.fc, network.network.fc = nn.Identity(), nn.Identity()
    with torch.no_grad():
        torch.testing.assert_close(network(grey), original(grey.expand(-1, 3, -1, -1)))
    assert record.adapted == ["network.conv1.weight"]


def test_a_stem_for_small_images_is_made_new(tmp_path: Path) -> None:
    _, path = torchvision_file(tmp_path, ".pth")
    chosen = pinned(RESNET | {"small_inputs": True}, path)
    _, record, body = started(chosen, images_of(32, 3), tmp_path)
    assert record.made_new[0] == "network.conv1.weight"
    assert "network.conv1.weight" not in body


def moved(
    source: dict[str, Any],
    target: dict[str, Any],
    sizes: tuple[int, int] = (16, 16),
    channels: tuple[int, int] = (3, 3),
) -> tuple[Classifier, Classifier, Transfer]:
    """A network of `source`, and one of `target` that started from it."""
    torch.manual_seed(1)
    original = registry.build(source, 7, sizes[0], channels[0])
    experienced(original)
    network = registry.build(target, 4, sizes[1], channels[1])

    def build(num_classes: int) -> Classifier:
        return registry.build(target, num_classes, sizes[1], channels[1])

    shape = torch.Size([channels[1], sizes[1], sizes[1]])
    return (
        original,
        network.eval(),
        transfer(network, original.state_dict(), head_of(build, 4), shape),
    )


def features(network: Classifier, last: str, images: Tensor) -> Tensor:
    """What the last layer gets."""
    found: list[Tensor] = []
    hook = network.get_submodule(last).register_forward_pre_hook(
        lambda _, inputs: found.append(inputs[0])
    )
    with torch.no_grad():
        network(images)
    hook.remove()
    return found[0]


ATTENTIONS = ("channel", "static", "spatial", "cbam", "self_attention")
PLAIN: dict[str, dict[str, Any]] = {
    "cnn": CNN,
    # what attention gets is no multiple of what the norm gives
    "cnn, silu": CNN | {"activation": "silu"},
    "cnn, strided pools": CNN | {"activation": "gelu", "pooling": "strided_conv"},
    "densenet": DENSENET,
}


@pytest.mark.parametrize("attention", ATTENTIONS)
@pytest.mark.parametrize("name", PLAIN)
def test_new_attention_begins_without_any_effect(name: str, attention: str) -> None:
    plain = PLAIN[name]
    heads = {"heads": 4 if plain["family"] == "cnn" else 3}
    original, network, done = moved(plain, plain | {"attention": attention} | heads)
    images = torch.randn(6, 3, 16, 16)
    before, after = (features(one, "classifier", images) for one in (original, network))
    assert torch.equal(before, after)
    assert done.made_new
    assert not done.adapted


def test_new_squeeze_and_excitation_of_timm_begins_without_any_effect() -> None:
    resnet = {"family": "timm", "name": "resnet18", "small_inputs": False}
    original, network, done = moved(resnet, resnet | {"name": "seresnet18"}, (64, 64))
    images = torch.randn(4, 3, 64, 64)
    assert torch.equal(*(features(one, "network.fc", images) for one in (original, network)))
    assert all(".se." in name or ".fc." in name for name in done.made_new)
    assert len(done.rescaled) == 2 * 8  # weight and bias of the norm before each of 8 modules


def test_new_attention_learns_from_the_first_step_on() -> None:
    _, network, _ = moved(CNN, CNN | {"attention": "channel"})
    network(torch.randn(8, 3, 16, 16))[:, 0].sum().backward()
    gradients = [module.excite.weight.grad for module in network.attention_layers().values()]
    assert all(gradient.abs().max() > 0 for gradient in gradients)


def test_attention_that_was_trained_is_taken_as_it_is() -> None:
    with_attention = CNN | {"attention": "channel"}
    original, network, done = moved(with_attention, with_attention)
    images = torch.randn(6, 3, 16, 16)
    assert torch.equal(*(features(one, "classifier", images) for one in (original, network)))
    assert done.made_new == ["classifier.weight", "classifier.bias"]
    assert not done.rescaled


def test_image_size_and_colours_may_differ_where_the_network_allows_it() -> None:
    averaged = CNN | {"head": "global_average"}
    original, network, done = moved(averaged, averaged, (8, 16), (1, 3))
    grey = torch.randn(6, 1, 16, 16)
    before = features(original, "classifier", grey)
    after = features(network, "classifier", grey.expand(-1, 3, -1, -1))
    torch.testing.assert_close(after, before)
    assert done.adapted == ["block1.conv.weight"]


def test_old_names_in_torchvisions_densenets_are_understood() -> None:
    torch.manual_seed(0)
    original = torchvision_models.densenet121()
    old = {
        name.replace(".norm", ".norm.").replace(".conv", ".conv.").replace("..", ".")
        if ".denselayer" in name
        else name: tensor
        for name, tensor in original.state_dict().items()
    }
    assert "features.denseblock1.denselayer1.norm.1.weight" in old
    settings_here = {"family": "torchvision", "name": "densenet121", "small_inputs": False}
    network = registry.build(settings_here, 4, 64, 3)
    head = frozenset(["network.classifier.weight", "network.classifier.bias"])
    done = transfer(network, old, head, torch.Size([3, 64, 64]))
    assert len(done.taken) == len(old) - 2
    assert torch.equal(network.network.features.conv0.weight, original.features.conv0.weight)


@pytest.mark.parametrize(
    ("source", "target", "sizes", "message"),
    [
        (CNN, DENSENET, (16, 16), r"not in the file: stem.* not in the network: block1\.conv"),
        (CNN, CNN, (16, 32), r"of other shapes: hidden\.weight \(512, 512\), here \(512, 2048\)"),
        (CNN | {"attention": "channel"}, CNN, (16, 16), r"not in the network: block1\.attention"),
        (CNN, CNN | {"channels": [32, 64]}, (16, 16), r"not in the network: block3"),
    ],
)
def test_weights_of_another_network_are_refused_by_the_names_that_do_not_fit(
    source: dict[str, Any], target: dict[str, Any], sizes: tuple[int, int], message: str
) -> None:
    with pytest.raises(InputError, match=message) as refused:
        moved(source, target, sizes)
    assert "\n" not in str(refused.value)


class Harmful:
    """What runs a command when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Path]]:
        return Path.touch, (self.path,)


def with_nan(network: nn.Module) -> dict[str, Tensor]:
    state = network.state_dict()
    state["bn1.running_mean"][3] = float("nan")
    return state


WRONG: dict[str, tuple[Callable[[nn.Module], Any], str]] = {
    "a pickle that runs code": (lambda _: Harmful(Path("ran")), "no state dict alone"),
    "a pickled model": (lambda network: network, "no state dict alone"),
    "more than a state dict": (
        lambda network: {"epoch": 3, "model": network.state_dict()},
        "no state dict alone",
    ),
    "a NaN": (with_nan, r"bn1\.running_mean holds a value that is not finite"),
}


@pytest.mark.parametrize("name", WRONG)
def test_files_that_hold_anything_but_finite_weights_are_refused(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    make, message = WRONG[name]
    torch.save(make(torchvision_models.resnet18()), "model.pth")
    with pytest.raises(InputError, match=message) as refused:
        started(pinned(RESNET, Path("model.pth")), images_of(64, 3), tmp_path)
    assert "\n" not in str(refused.value)
    assert not Path("ran").exists()


@pytest.mark.parametrize("name", ["cut.safetensors", "cut.pth"])
def test_files_that_are_cut_off_are_refused(name: str, tmp_path: Path) -> None:
    _, path = torchvision_file(tmp_path, Path(name).suffix)
    cut = tmp_path / name
    cut.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(InputError, match="safetensors"):
        started(pinned(RESNET, cut), images_of(64, 3), tmp_path)


def test_a_file_needs_its_checksum_beside_it_or_in_its_name(tmp_path: Path) -> None:
    path = tmp_path / "net.pth"
    path.write_bytes(b"weights")
    known = hashlib.sha256(b"weights").hexdigest()
    with pytest.raises(InputError, match=f"add sha256: {known}"):
        start_files.check_files(settings(**RESNET, weights=str(path)))
    start_files.check_files(settings(**RESNET, weights=str(path), sha256=known))
    named = path.rename(tmp_path / f"net-{known[:8]}.pth")
    start_files.check_files(settings(**RESNET, weights=str(named)))
    named.write_bytes(b"others")
    with pytest.raises(InputError, match="needs its checksum beside it"):
        start_files.check_files(settings(**RESNET, weights=str(named)))
    with pytest.raises(InputError, match="it has changed"):
        start_files.check_files(settings(**RESNET, weights=str(named), sha256=known))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    chosen = settings(**RESNET, weights=str(tmp_path / "none.pth"))
    with pytest.raises(InputError, match=r"tuned\.weights: '.*none\.pth' can't be read: No such"):
        start_files.check_files(chosen)


def test_the_librarys_own_weights_can_be_put_there_by_hand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, path = torchvision_file(tmp_path, ".pth")
    own = f"resnet18-{sha256(path)[:8]}.pth"
    monkeypatch.setattr(
        "pipeline.models.library.weights_url", lambda *_: f"http://127.0.0.1:1/{own}"
    )
    chosen = settings(**RESNET, weights="default")
    with pytest.raises(InputError, match=rf"get http://127.0.0.1:1/{own} on another machine"):
        started(chosen, images_of(64, 3), tmp_path)
    path.rename(tmp_path / own)
    _, record, _ = started(chosen, images_of(64, 3), tmp_path)
    assert record.file == own


def test_default_is_the_file_that_the_library_names() -> None:
    url = "https://download.pytorch.org/models/resnet18-f37072fd.pth"
    assert weights_url("torchvision", "resnet18") == url


def test_own_networks_have_no_default() -> None:
    with pytest.raises(InputError, match=r"tuned\.weights: 'default' is for torchvision and timm"):
        settings(**CNN | {"weights": "default"})


@pytest.mark.parametrize("name", ["googlenet", "inception_v3"])
def test_torchvisions_weights_for_pixels_from_minus_one_to_one_get_such(name: str) -> None:
    # with its weights torchvision brings what is normalised by ImageNet's mean and std to them
    network = torchvision_models.get_model(name, transform_input=True, init_weights=False)
    pixels = torch.rand(2, 3, 8, 8)
    mean, std = (getattr(writing.IMAGENET, key) for key in ("mean", "std"))
    mean, std = (torch.tensor(each).reshape(3, 1, 1) for each in (mean, std))
    torch.testing.assert_close(
        network._transform_input((pixels - mean) / std), (pixels - 0.5) / 0.5
    )

    content = DEFAULT.model_dump() | {"model": "tuned"}
    content["architectures"] = {"tuned": RESNET | {"name": name, "weights": "default"}}
    content["data"] |= {"name": "cifar10", "normalisation": "imagenet"}
    half = [0.5, 0.5, 0.5]
    with pytest.raises(InputError) as error:
        load.check(content)
    assert f"data.normalisation to {{mean: {half}, std: {half}}}" in str(error.value)
    content["data"]["normalisation"] = {"mean": half, "std": half}
    load.check(content)


def test_freezing_without_weights_is_refused() -> None:
    content = DEFAULT.model_dump()
    content["train"]["freeze"] = 2
    with pytest.raises(InputError, match=r"train\.freeze: 2 .* no architecture has any"):
        load.check(content)


def frozen_run(
    epochs: int,
    checkpoints: Checkpoints | None = None,
    on_epoch: Callable[[list[Epoch]], None] = lambda _: None,
    **changes: Any,
) -> tuple[dict[str, Tensor], dict[str, Tensor], set[str]]:
    """A network before and after a training, and the names of its body."""
    torch.manual_seed(0)
    network = registry.build(CNN | {"attention": "channel"}, 10, 8, 1)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    body = {name for name in before if not name.startswith("classifier.")}
    content = DEFAULT.train.model_dump() | {"epochs": epochs, "weight_decay": 0.1} | changes
    data, recipe = digits(), Train.model_validate(content)
    parts = [to_device(data, name, DEVICE) for name in ("train", "validation")]
    train(network, *parts, recipe, 0, CPU, checkpoints, body=body, on_epoch=on_epoch)
    return before, network.state_dict(), body


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd"])
def test_frozen_weights_and_statistics_keep_their_bits(optimizer: str) -> None:
    before, after, body = frozen_run(
        2, freeze=2, optimizer=optimizer, l1=1e-3, clip_norm=0.1, ema=0.9
    )
    assert all(torch.equal(before[name], after[name]) for name in body)
    assert not torch.equal(before["classifier.weight"], after["classifier.weight"])


def test_after_the_frozen_epochs_all_weights_learn() -> None:
    before, after, body = frozen_run(3, freeze=2)
    unchanged = {name for name in body if torch.equal(before[name], after[name])}
    assert not unchanged
    assert after["block1.norm.num_batches_tracked"] == -(-300 // DEFAULT.train.batch_size)


@pytest.mark.parametrize("killed_after", [1, 2, 3])
def test_killed_in_or_after_the_frozen_epochs_it_resumes_to_the_same_bits(
    killed_after: int, tmp_path: Path
) -> None:
    def kill(history: list[Epoch]) -> None:
        if len(history) == killed_after:
            raise KilledError

    checkpoints = Checkpoints(tmp_path, "key")
    with pytest.raises(KilledError):
        frozen_run(4, checkpoints, kill, freeze=2, ema=0.9)
    _, resumed, _ = frozen_run(4, checkpoints, freeze=2, ema=0.9)
    _, undisturbed, _ = frozen_run(4, freeze=2, ema=0.9)
    assert all(torch.equal(resumed[name], tensor) for name, tensor in undisturbed.items())


@pytest.mark.parametrize("schedule", ["fixed", "cosine", "one_cycle", "plateau"])
def test_the_body_learns_at_its_share_of_the_rate(schedule: str) -> None:
    content = DEFAULT.train.model_dump() | {"body_rate": 0.25, "schedule": schedule, "epochs": 4}
    recipe = Train.model_validate(content | {"warmup_epochs": 1})
    network = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 2))
    groups = parameter_groups(network, recipe, {"0.weight", "0.bias"})
    optimizer = OPTIMIZERS["sgd"](groups, recipe)
    plan = Schedule(optimizer, recipe, 5)
    for _ in range(19):
        head, body = (group["lr"] for group in optimizer.param_groups)
        assert body == pytest.approx(0.25 * head)
        optimizer.step()
        plan.after_step()
