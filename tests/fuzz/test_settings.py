"""Whatever stands in params.yaml: it trains, or is refused in one line before anything runs."""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import event, given

from pipeline.cli import main
from pipeline.data.sources.registry import SOURCES
from pipeline.evaluation.metrics import classification_metrics
from pipeline.models import registry
from pipeline.settings import commented_yaml
from pipeline.settings.load import check
from pipeline.settings.rules import GREY, OWN_SIZES
from pipeline.settings.schema import Settings
from pipeline.settings.yaml_file import read
from pipeline.system.errors import InputError, StageError
from pipeline.training import compute
from pipeline.training.batches import Images, plain_batches
from pipeline.training.loop import train
from pipeline.training.prediction import predict
from tests.fuzz.conftest import Outcomes, processor_limit
from tests.fuzz.strategies import (
    SMOKE,
    Content,
    as_yaml,
    broken,
    examples,
    odd_yaml,
    trainable,
    unlimited,
)

ROOT = Path(__file__).parents[2]
CLASSES = ("disc", "square", "stripes")
LONGEST_MESSAGE = 4000  # characters
# What only shows when a training has begun.
REFUSED_LATER = {
    "the loss is no longer a number": "stopped: the loss is no longer a number",
    "train.one_cycle.pct_start": "refused by the training: too few steps for one_cycle",
}
SLOWEST = 5  # seconds of the processor's


def made_images(count: int, size: int, channels: int) -> Images:
    random = np.random.default_rng(0)
    return Images(
        images=torch.from_numpy(random.integers(0, 256, (count, size, size, channels), np.uint8)),
        rows=torch.arange(count),
        labels=torch.arange(count) % len(CLASSES),
        mean=torch.full((channels,), 0.5),
        std=torch.full((channels,), 0.3),
        num_classes=len(CLASSES),
    )


def trained(settings: Settings) -> str:
    """Train and evaluate the candidate on a few made-up images; return how it ended."""
    size = settings.data.image_size or OWN_SIZES[settings.data.name]
    channels = 1 if settings.data.name in GREY else 3
    training, held_out = made_images(10, size, channels), made_images(5, size, channels)
    content = settings.architectures[settings.model].model_dump()
    with compute.prepare(settings.compute) as hardware:
        try:
            network = registry.build(content, len(CLASSES), size, channels)
        except InputError as error:
            if content["family"] in ("torchvision", "timm") and "set " in str(error):
                return "refused by the library"
            raise
        try:
            train(network, training, held_out, settings.train, settings.seeds[0], hardware)
        except (InputError, StageError) as error:
            for message, ended in REFUSED_LATER.items():
                if message in str(error):
                    return ended
            raise
        logits = torch.cat(
            [part for part, _ in predict(network, plain_batches(held_out, 4), hardware)]
        )
    metrics = classification_metrics(logits.numpy(), held_out.labels.numpy(), CLASSES)
    assert logits.shape == (5, len(CLASSES))
    assert 0 <= metrics.accuracy <= 1
    return "trained and evaluated"


def tried(content: Content) -> str:
    """Check settings and, if they are right, train; no warning may come of it."""
    try:
        settings = check(content)
    except InputError as error:
        assert_one_line(str(error))
        return "refused by check"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return trained(settings)


def assert_one_line(message: str) -> None:
    assert message.isprintable(), repr(message)
    assert len(message) <= LONGEST_MESSAGE


@examples(40, 2500)
@given(content=trainable())
def test_drawn_settings_train_a_step_or_are_refused_by_check(
    content: Content, outcomes: Outcomes
) -> None:
    ended = tried(content)
    event(ended)
    outcomes.add("settings drawn from the schema, with the project's own networks", ended)


@examples(1, 100)
@given(content=trainable(libraries=True))
def test_drawn_settings_train_a_step_with_a_library_network(
    content: Content, outcomes: Outcomes
) -> None:
    ended = tried(content)
    outcomes.add("settings drawn from the schema, with torchvision's networks", ended)


def test_own_sizes_are_those_of_the_sources() -> None:
    shapes = {name: source.shape for name, source in SOURCES.items()}
    assert {
        name: shape.image_size for name, shape in shapes.items() if shape is not None
    } == OWN_SIZES


@examples(50, 3000)
@given(content=unlimited())
def test_settings_of_any_size_are_right_or_refused(content: Content, outcomes: Outcomes) -> None:
    try:
        with processor_limit(SLOWEST):
            check(content)
        ended = "right"
    except InputError as error:
        assert_one_line(str(error))
        ended = "refused by check"
    outcomes.add("settings drawn from the schema, as large as it takes", ended)


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A working folder with the folder of images that data.path names."""
    folder = tmp_path_factory.mktemp("settings")
    (folder / "data" / "local").mkdir(parents=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        yield folder


@examples(30, 1000)
@given(content=unlimited())
def test_written_settings_read_back_as_they_were(content: Content, workplace: Path) -> None:
    entries = content["architectures"]
    entries["other"] = entries["candidate"] | {"baseline": "candidate"}
    Path("params.yaml").write_text(commented_yaml.render(content, "Drawn."), encoding="utf-8")
    assert read(Path("params.yaml")) == content


def checked(text: bytes) -> tuple[int, str]:
    """Run ``python -m pipeline check`` on a settings file; return its exit code and its errors."""
    Path("params.yaml").write_bytes(text)
    out, errors = io.StringIO(), io.StringIO()
    with (
        processor_limit(SLOWEST),
        warnings.catch_warnings(),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(errors),
    ):
        warnings.simplefilter("error")
        try:
            code = main(["check"])
        except SystemExit as ended:
            code = int(ended.code or 0)
    return code, errors.getvalue()


def assert_refused(code: int, errors: str) -> None:
    assert code == 2
    assert errors.startswith("error: ")
    assert errors.endswith("\n")
    assert_one_line(errors.removesuffix("\n"))


@examples(50, 2500)
@given(case=broken())
def test_broken_setting_is_refused_by_its_name(
    case: tuple[Content, str], workplace: Path, outcomes: Outcomes
) -> None:
    content, name = case
    code, errors = checked(as_yaml(content).encode())
    assert_refused(code, errors)
    assert f"params.yaml: {name}" in errors, errors
    outcomes.add("settings with one that is wrong", "refused in one line that names it")


@examples(40, 2500)
@given(text=odd_yaml())
def test_odd_yaml_is_right_or_refused_in_one_line(
    text: str, workplace: Path, outcomes: Outcomes
) -> None:
    code, errors = checked(text.encode("utf-8", "surrogatepass"))
    if code == 0:
        assert not errors
    else:
        assert_refused(code, errors)
    outcomes.add("settings in odd YAML", "refused in one line" if code else "right")


# Found by fuzzing; `check` ended in a traceback.
FOUND = {
    "a date that is none": "train: 2001-99-99",
    "a number that is none": "train: !!float x",
    "an integer of 5,000 digits": f"train: {'9' * 5000}",
    "a hexadecimal integer of 5,000 digits": f"train: 0x{'f' * 5000}",
    "half of a surrogate pair": 'model: "\\ud800"',
    "a thousand brackets": f"model: {'[' * 1000}{']' * 1000}",
}


@pytest.mark.parametrize("name", FOUND)
def test_what_was_found_stays_fixed(name: str, workplace: Path) -> None:
    assert_refused(*checked(FOUND[name].encode()))


def test_a_thousand_folds_are_not_listed_one_by_one() -> None:
    with pytest.raises(InputError, match=r"seeds: \[0, 1, ..., 999\]$") as error:
        check(SMOKE | {"split": SMOKE["split"] | {"folds": 1000}})
    assert_one_line(str(error.value))


def test_twenty_thousand_seeds_are_checked_at_once() -> None:
    # eight, when each was compared with all others
    with processor_limit(1), pytest.raises(InputError, match="seeds: 7 is listed twice"):
        check(SMOKE | {"seeds": [*range(20_000), 7]})


@examples(2, 20)
@given(text=odd_yaml())
def test_check_as_a_program_ends_as_in_process(
    text: str, workplace: Path, outcomes: Outcomes
) -> None:
    code, errors = checked(text.encode("utf-8", "surrogatepass"))
    done = subprocess.run(
        [sys.executable, "-m", "pipeline", "check"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert (done.returncode, done.stderr) == (code, errors)
    outcomes.add("settings in odd YAML, by a process of their own", "as in-process")
