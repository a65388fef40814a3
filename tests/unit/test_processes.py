"""Several processes train one network as one would: real processes, gloo on the CPU."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from filelock import FileLock
from safetensors.torch import load_file

from pipeline.data.augmentation import Augmentation
from pipeline.models import registry
from pipeline.settings import presets
from pipeline.stages import download, split
from pipeline.stages import train as stage
from pipeline.system.errors import InputError, StageError
from pipeline.training import compute
from pipeline.training.batches import training_batches
from pipeline.training.checkpoints import Checkpoints
from pipeline.training.distributed import launch
from pipeline.training.distributed.group import share_of
from pipeline.training.distributed.member import Member
from pipeline.training.distributed.processes import ALONE
from pipeline.training.loop import Trained
from tests.unit.made_processes import (
    DEVICE,
    NETWORKS,
    ROOT,
    SETTINGS,
    InDouble,
    KilledError,
    WithUnused,
    digits,
    failing,
    frozen_at_first,
    laboratory,
    network,
    normalised,
    numbered,
    trained,
)

DATA = digits()
ROUNDING = 1e-4  # relative, of losses in fp32 after all epochs: it grows tenfold in two of them


def curves(run: Trained) -> pd.DataFrame:
    return pd.DataFrame(run.history).drop(columns="seconds")


def read(path: Path) -> pd.DataFrame:
    """The curves of a run that `save` wrote."""
    return pd.DataFrame(json.loads(path.read_text())).drop(columns="seconds")


def assert_follow(found: pd.DataFrame, expected: pd.DataFrame) -> None:
    losses = ["train_loss", "validation_loss", "learning_rate"]
    np.testing.assert_allclose(found[losses], expected[losses], rtol=ROUNDING)
    one_image = {"train_accuracy": 1 / 300, "validation_accuracy": 1 / 101}
    for column, share in one_image.items():  # one whose two largest logits are nearly the same
        np.testing.assert_allclose(found[column], expected[column], atol=1.01 * share)


# --- what two real processes do -------------------------------------------------------------------


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of what two processes wrote."""
    folder = tmp_path_factory.mktemp("together")
    begun_alone = Checkpoints(folder / "begun by one", "key")
    with pytest.raises(KilledError):
        trained(network("se_densenet"), DATA, ALONE, begun_alone, killed_after=24)
    launch.across(2, laboratory, folder, DATA)
    return folder


def found(together: Path, what: str) -> list[Any]:
    """What each process found."""
    return [json.loads((together / f"found-{rank}.json").read_text())[what] for rank in (0, 1)]


@pytest.mark.parametrize("name", NETWORKS)
def test_loss_curve_of_two_processes_is_that_of_one(name: str, together: Path) -> None:
    alone = curves(trained(network(name), DATA, ALONE))
    assert alone.train_loss.iloc[-1] < 0.99 * alone.train_loss.iloc[0]  # something is learnt
    assert_follow(read(together / f"{name}-0.json"), alone)


@pytest.mark.parametrize("name", NETWORKS)
def test_two_processes_take_the_steps_of_one(name: str, together: Path) -> None:
    expected = trained(InDouble(name), DATA, ALONE).weights
    weights = torch.load(together / f"{name}-double.pt")
    for key, tensor in expected.items():
        torch.testing.assert_close(weights[key], tensor, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", NETWORKS)
def test_processes_have_the_same_history_and_weights(name: str, together: Path) -> None:
    histories = [read(together / f"{name}-{rank}.json") for rank in (0, 1)]
    pd.testing.assert_frame_equal(*histories)
    first, second = (torch.load(together / f"{name}-{rank}.pt") for rank in (0, 1))
    assert first.keys() == second.keys() == network(name).state_dict().keys()
    assert all(torch.equal(first[key], second[key]) for key in first)


@pytest.mark.parametrize("count", [50, 64, 77])
def test_every_image_is_trained_once_an_epoch_by_one_process(count: int, together: Path) -> None:
    shares = found(together, f"shares of {count}")
    in_all = [image for process in shares for batch in process for image in batch]
    assert sorted(in_all) == list(range(count))
    alone = [
        batch.tolist() for _, batch in training_batches(numbered(count), 16, Augmentation(), 0, 1)
    ]
    assert [one + other for one, other in zip(*shares, strict=True)] == alone


@pytest.mark.parametrize("size", [6, 7, 2])
def test_batch_norm_is_that_of_the_full_batch(size: int, together: Path) -> None:
    expected = normalised(size, None)
    shares = [share_of(size, rank, 2) for rank in (0, 1)]
    parts = [torch.load(together / f"norm-{size}-{rank}.pt") for rank in (0, 1)]
    for part, own in zip(parts, shares, strict=True):
        count = own.stop - own.start  # of two images the first process has none
        for name in ("output", "gradient"):
            torch.testing.assert_close(part[name][:count], expected[name][own])
        for name in ("running_mean", "running_var", "num_batches_tracked"):
            torch.testing.assert_close(part[name], expected[name])
    for name in ("weight", "bias"):
        torch.testing.assert_close(parts[0][name] + parts[1][name], expected[name])


def test_a_body_that_is_frozen_and_then_slow_learns_as_with_one_process(together: Path) -> None:
    alone = curves(frozen_at_first(ALONE, DATA))
    for rank in (0, 1):
        assert_follow(read(together / f"frozen-{rank}.json"), alone)


def test_weights_that_no_image_reaches_change_as_with_one_process(together: Path) -> None:
    alone = WithUnused()
    assert_follow(read(together / "unused-0.json"), curves(trained(alone, DATA, ALONE, l1=1e-3)))
    weights = torch.load(together / "unused-0.pt")
    for name, expected in alone.state_dict().items():
        torch.testing.assert_close(weights[name], expected, rtol=1e-4, atol=1e-5)


def test_one_process_resumes_what_two_began(together: Path) -> None:
    begun = Checkpoints(together / "begun by two", "key")
    at = begun.latest(DEVICE)
    assert at is not None
    assert at[0] == 2
    resumed = trained(network("se_densenet"), DATA, ALONE, begun)
    assert_follow(curves(resumed), curves(trained(network("se_densenet"), DATA, ALONE)))


def test_two_processes_resume_what_one_began(together: Path) -> None:
    alone = curves(trained(network("se_densenet"), DATA, ALONE))
    resumed = read(together / "resumed-0.json")
    assert_follow(resumed, alone)
    # its own: the first two epochs are to the bit those of the process that began
    assert resumed.train_loss[:2].tolist() == alone.train_loss[:2].tolist()


def test_processes_draw_dropout_from_streams_of_their_own(together: Path) -> None:
    first, second = found(together, "streams")
    assert first != second


def test_processes_find_out_where_they_differ(together: Path) -> None:
    assert found(together, "agrees") == [[True, True], [True, False]]


def test_shares_are_even_and_leave_nothing_out() -> None:
    for count in (1, 2, 3, 5, 8):
        for size in range(1, 40):
            shares = [share_of(size, rank, count) for rank in range(count)]
            taken = [image for share in shares for image in range(size)[share]]
            assert taken == list(range(size))
            assert all(share.start % 2 == 0 for share in shares if share.start < share.stop)
            sizes = [share.stop - share.start for share in shares]
            assert max(sizes) - min(sizes) <= 2


# --- errors ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [
        (InputError("params.yaml: it is wrong"), InputError, r"^params\.yaml: it is wrong$"),
        (
            OSError(28, "No space left", "somewhere"),
            StageError,
            "^somewhere: No space left: the disk is full; ",
        ),
        (ZeroDivisionError("a defect"), StageError, "^process 1 of 2 .*: ZeroDivisionError: a def"),
    ],
)
def test_error_of_one_process_ends_all_and_is_reported_once(
    error: Exception, kind: type[Exception], message: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(kind, match=message):
        launch.across(2, failing, error)
    printed = capfd.readouterr().err
    assert printed.count("Traceback") == isinstance(error, ZeroDivisionError)
    assert (printed == "") == (not isinstance(error, ZeroDivisionError))


TORCHRUN = {
    "RANK": "0",
    "WORLD_SIZE": "3",
    "LOCAL_RANK": "0",
    "LOCAL_WORLD_SIZE": "3",
    "MASTER_ADDR": "localhost",
    "MASTER_PORT": "1",
}


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        (TORCHRUN, r"train\.processes: 1, but torchrun started 3 \(WORLD_SIZE\); make them the"),
        ({"WORLD_SIZE": "3"}, r"but not RANK, LOCAL_RANK, .*unset WORLD_SIZE"),
    ],
)
def test_another_number_of_processes_than_torchruns_is_refused(
    variables: dict[str, str], message: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    folders = [tmp_path / name for name in ("splits", "starts", "out", "kept")]
    with pytest.raises(InputError, match=message):
        stage.run(SETTINGS, "cnn", 0, *folders, dict)


def test_fewer_gpus_than_processes_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    member = Member(torch.distributed.HashStore(), 0, 4, 0, 4)
    with pytest.raises(InputError, match=r"4 needs 4 GPUs .* finds 2 here"), member.gpu():
        pass


def test_gpus_are_held_together_or_not_at_all(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def lock(index: int) -> FileLock:
        return FileLock(tmp_path / str(index), timeout=0)

    class WaitedError(Exception):
        """Stands in for the wait."""

    def waited(_seconds: float) -> None:
        with lock(0):  # free for others meanwhile
            raise WaitedError

    monkeypatch.setattr(compute, "_gpu_lock", lock)
    monkeypatch.setattr(time, "sleep", waited)
    with lock(1), pytest.raises(WaitedError), compute.first_gpus(2):
        pass
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    with compute.first_gpus(2), compute.free_gpu() as index:
        assert index == 2


# --- the command ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with params.yaml for two processes, and the splits of the digits."""
    root = tmp_path_factory.mktemp("project")
    text = presets.text("smoke")
    for before, after in {"processes: 1 ": "processes: 2 ", "device: auto": "device: cpu"}.items():
        assert text.count(before) == 1
        text = text.replace(before, after)
    (root / "params.yaml").write_text(text)
    download.run(SETTINGS.data, root / "data" / "raw", root / "downloads")
    split.run(SETTINGS.data, SETTINGS.split, root / "data" / "raw", root / "data" / "splits")
    return root


def command(out: str, *launcher: str) -> list[str]:
    start = launcher or (sys.executable,)
    return [*start, "-m", "pipeline", "train", "--model", "cnn", "--seed", "0", "--out", out]


def environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


def test_command_is_one_stage_and_gives_the_same_bits_under_torchrun(project: Path) -> None:
    torchrun = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")
    for out, launcher in (("own", ()), ("torchrun", torchrun)):
        done = subprocess.run(
            command(out, *launcher),
            cwd=project,
            env=environment(),
            check=True,
            capture_output=True,
            text=True,
        )
        lines = [line for line in done.stderr.splitlines() if " of all, " not in line]
        shown = [line.partition(":")[0] for line in lines]  # but for those of a slow machine
        assert shown == ["cnn, seed 0", "epoch 1/2", "epoch 2/2", shown[-1]], done.stderr
        assert shown[-1].startswith("best epoch")
        written = sorted(path.name for path in (project / out).iterdir())
        assert written == ["history.csv", "model.safetensors", "train.json"]
        assert json.loads((project / out / "train.json").read_text())["processes"] == 2
        assert not list((project / ".cache").glob("checkpoints/*"))
    weights = [(project / out / "model.safetensors").read_bytes() for out in ("own", "torchrun")]
    assert weights[0] == weights[1]
    expected = registry.build(SETTINGS.architectures["cnn"].model_dump(), 10, 8, 1).state_dict()
    assert load_file(project / "own" / "model.safetensors").keys() == expected.keys()


def workers_of(process: subprocess.Popen[str]) -> list[int]:
    """The processes that train, by rank."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    programs = {int(pid): Path(f"/proc/{pid}/cmdline").read_bytes() for pid in children}
    return [pid for pid, program in programs.items() if b"spawn_main" in program]


def is_running(pid: int) -> bool:
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False


@pytest.fixture
def training(project: Path) -> Iterator[subprocess.Popen[str]]:
    """A long training of two processes that has finished an epoch."""
    params = project / "params.yaml"
    text = params.read_text()
    params.write_text(text.replace("  epochs: 2 ", "  epochs: 100000 "))
    process = subprocess.Popen(
        command("long"),
        cwd=project,
        env=environment(),
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stderr is not None
    for line in process.stderr:
        if ": loss " in line:
            break
    yield process
    params.write_text(text)
    for pid in [process.pid, *workers_of(process)] if process.poll() is None else []:
        os.kill(pid, signal.SIGKILL)
    process.wait()
    process.stderr.close()


def listening_addresses(pid: int) -> list[str]:
    """The addresses on which a process waits for connections, as the system writes them."""
    links = [str(path.readlink()) for path in Path(f"/proc/{pid}/fd").iterdir()]
    rows = [
        line.split()
        for table in ("tcp", "tcp6")
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]
    ]
    return [row[1] for row in rows if row[3] == "0A" and f"socket:[{row[9]}]" in links]


def test_processes_listen_on_the_loopback_device_alone(training: subprocess.Popen[str]) -> None:
    pids = [training.pid, *workers_of(training)]
    addresses = [address for pid in pids for address in listening_addresses(pid)]
    assert len(addresses) >= 2  # each of the two workers for the other
    assert all(address.startswith("0100007F:") for address in addresses)  # 127.0.0.1


def test_killed_process_ends_all_with_one_line_and_keeps_the_checkpoint(
    training: subprocess.Popen[str], project: Path
) -> None:
    workers = workers_of(training)
    os.kill(workers[1], signal.SIGKILL)
    assert training.stderr is not None
    printed = [line for line in training.stderr if not line.startswith("epoch")]
    assert training.wait(timeout=60) == 1
    assert printed == [
        "error: process 1 of 2 was killed by SIGKILL (was memory short?); the same command resumes "
        "after the last epoch\n"
    ]
    assert not any(map(is_running, workers))
    assert list((project / ".cache").glob("checkpoints/cnn-0-*/epoch-*.pt"))


def test_terminated_command_leaves_no_process_and_keeps_the_checkpoint(
    training: subprocess.Popen[str], project: Path
) -> None:
    workers = workers_of(training)
    assert len(workers) == 2
    training.terminate()
    assert training.wait(timeout=60) == -signal.SIGTERM  # as one process alone
    deadline = time.monotonic() + 60
    while any(map(is_running, workers)):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert list((project / ".cache").glob("checkpoints/cnn-0-*/epoch-*.pt"))
