"""Losses against scikit-learn and closed forms, and a person's own by dotted path."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import log_loss, mean_squared_error
from sklearn.utils.class_weight import compute_class_weight, compute_sample_weight

from pipeline.settings import presets
from pipeline.settings.schema import Train
from pipeline.system.errors import InputError
from pipeline.training.losses import balanced_weights, focal, make_loss, source_of, source_of_loss

SETTINGS = presets.load("smoke")
LOGITS = torch.randn(7, 4, generator=torch.Generator().manual_seed(0), requires_grad=True)
CLASSES = torch.tensor([0, 1, 2, 3, 0, 1, 2])
ONE_HOT = torch.eye(4)[CLASSES]
PROBABILITIES = LOGITS.detach().double().softmax(1).numpy()


def recipe(loss: str, label_smoothing: float = 0.0) -> Train:
    changes = {"loss": loss, "label_smoothing": label_smoothing}
    return Train.model_validate(SETTINGS.train.model_dump() | changes)


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A module `own_losses` that can be imported."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "own_losses", raising=False)
    source_of_loss.cache_clear()
    return tmp_path / "own_losses.py"


def test_cross_entropy_is_scikit_learns_log_loss() -> None:
    loss = make_loss(recipe("cross_entropy"))(LOGITS, CLASSES)
    assert loss.item() == pytest.approx(log_loss(CLASSES, PROBABILITIES, labels=range(4)))


def test_smoothed_cross_entropy_mixes_the_label_with_all_classes() -> None:
    loss = make_loss(recipe("cross_entropy", 0.2))(LOGITS, CLASSES)
    every_class = -np.log(PROBABILITIES).mean(1).mean()
    own_class = log_loss(CLASSES, PROBABILITIES, labels=range(4))
    assert loss.item() == pytest.approx(0.8 * own_class + 0.2 * every_class)


def test_balanced_weights_and_their_loss_are_scikit_learns() -> None:
    weights = balanced_weights(CLASSES, 4)
    classes = CLASSES.numpy()
    expected = compute_class_weight("balanced", classes=np.arange(4), y=classes)
    assert weights.tolist() == pytest.approx(expected.tolist())
    loss = make_loss(recipe("cross_entropy"), weights)(LOGITS, CLASSES)
    by_image = compute_sample_weight("balanced", classes)
    assert loss.item() == pytest.approx(
        log_loss(classes, PROBABILITIES, labels=range(4), sample_weight=by_image)
    )


def test_mse_is_scikit_learns_of_probabilities_and_one_hot_targets() -> None:
    loss = make_loss(recipe("mse"))(LOGITS, CLASSES)
    assert loss.item() == pytest.approx(mean_squared_error(ONE_HOT.numpy(), PROBABILITIES))


@pytest.mark.parametrize("name", ["cross_entropy", "mse", "pipeline.training.losses.focal"])
def test_one_hot_targets_are_the_same_as_classes(name: str) -> None:
    loss = make_loss(recipe(name))
    assert loss(LOGITS, ONE_HOT).item() == pytest.approx(loss(LOGITS, CLASSES).item())


def test_focal_loss_without_focus_is_cross_entropy_and_with_it_the_papers_formula() -> None:
    expected = log_loss(CLASSES, PROBABILITIES, labels=range(4))
    assert focal(LOGITS, ONE_HOT, gamma=0.0).item() == pytest.approx(expected)
    true_class = PROBABILITIES[np.arange(7), CLASSES]
    formula = -((1 - true_class) ** 2 * np.log(true_class)).mean()
    assert focal(LOGITS, ONE_HOT).item() == pytest.approx(formula)


def test_own_loss_gets_logits_and_probabilities(own: Path) -> None:
    own.write_text("def distance(logits, targets):\n    return (logits - targets).abs().mean()\n")
    train = recipe("own_losses.distance")
    expected = (LOGITS - ONE_HOT).abs().mean().item()
    assert make_loss(train)(LOGITS, CLASSES).item() == pytest.approx(expected)
    assert source_of(train) == [own]
    assert source_of(recipe("mse")) == []


@pytest.mark.parametrize(
    "written",
    [
        "def distance(logits, targets):\n    return (logits - targets).abs().mean()\n",
        "import torch\ndistance = torch.nn.L1Loss()\n",
        "import functools, torch\n"
        "distance = functools.partial(torch.nn.functional.l1_loss, reduction='mean')\n",
        "import torch\n@torch.autocast('cpu', enabled=False)\n"
        "def distance(logits, targets):\n    return (logits - targets).abs().mean()\n",
    ],
    ids=["function", "module", "partial", "decorated"],
)
def test_whatever_can_be_called_is_a_loss(own: Path, written: str) -> None:
    own.write_text(written)
    train = recipe("own_losses.distance")
    expected = (LOGITS - ONE_HOT).abs().mean().item()
    assert make_loss(train)(LOGITS, CLASSES).item() == pytest.approx(expected)
    assert source_of(train) == [own]


def test_what_an_own_loss_imports_beside_it_is_its_source_too(
    own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    helper = own.with_name("loss_parts.py")
    monkeypatch.delitem(sys.modules, "loss_parts", raising=False)
    helper.write_text("def inner(logits, targets):\n    return (logits * targets).mean()\n")
    own.write_text("from loss_parts import inner as mine\n")
    assert source_of(recipe("own_losses.mine")) == [helper, own]


def test_loss_of_an_installed_package_has_no_source_here() -> None:
    train = recipe("torch.nn.functional.cross_entropy")
    assert make_loss(train)(LOGITS, CLASSES).item() == pytest.approx(
        log_loss(CLASSES, PROBABILITIES, labels=range(4))
    )
    assert source_of(train) == []


WRONG = {
    "no_such_module.loss": "can't be imported: ModuleNotFoundError",
    "own_losses.missng": r"no missng in own_losses \(did you mean 'missing'\?\)",
    "own_losses.NUMBER": "is a int; name a function",
    "torch.nn.CrossEntropyLoss": "is a type; name a function",
}


@pytest.mark.parametrize("path", WRONG)
def test_path_to_no_function_is_reported(own: Path, path: str) -> None:
    own.write_text("NUMBER = 3\nmissing = print\n")
    with pytest.raises(InputError, match=rf"train\.loss: '{path}'.* {WRONG[path]}"):
        make_loss(recipe(path))


@pytest.mark.parametrize(
    ("written", "reason"),
    [
        ("raise RuntimeError('not\\ntoday')", "RuntimeError: not today"),
        ("import sys; sys.exit(3)", "SystemExit: 3"),
        ("def broken(:", "SyntaxError"),
    ],
)
def test_module_that_fails_is_reported_in_one_line(own: Path, written: str, reason: str) -> None:
    own.write_text(written)
    with pytest.raises(InputError, match=f"can't be imported: {reason}") as error:
        make_loss(recipe("own_losses.distance"))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        ("logits.abs()", r"returned a tensor of shape \(7, 4\)"),
        ("3.0", "returned a float"),
        ("logits.to(torch.complex64).mean()", "torch.complex64"),
        ("targets.mean()", "doesn't depend on the logits"),
        ("targets.clone().requires_grad_().mean()", "doesn't depend on the logits"),
        ("logits.mean(5)", "calling it failed: IndexError"),
    ],
)
def test_function_that_is_no_loss_is_reported(own: Path, returned: str, message: str) -> None:
    own.write_text(f"import torch\ndef bad(logits, targets):\n    return {returned}\n")
    with pytest.raises(InputError, match=message):
        make_loss(recipe("own_losses.bad"))(LOGITS, CLASSES)
