"""The benchmarks' table says what was measured; no test says how fast anything is."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable
from importlib.metadata import version
from io import BytesIO, StringIO
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console

from benchmarks import __main__ as command_line
from benchmarks import engines, folders, gpu, processes, shares, table, usual_loop
from benchmarks.line import Line, Mark
from benchmarks.networks import Training, cifar10_settings
from benchmarks.project import Project
from benchmarks.rows import ROWS
from benchmarks.timing import Turns, in_a_process, take_turns
from pipeline.data import arrays
from pipeline.settings.schema import Compute
from pipeline.training import compute

THREE_TIMES = Mark("at least", 3, " times")


def line(figures: tuple[float, ...], mark: Mark = THREE_TIMES) -> Line:
    return Line("training `a|b`", "9 images/s", "the usual loop", figures, mark, "The disk.")


def named(calls: list[str], name: str, value: float) -> Callable[[], float]:
    def measure() -> float:
        calls.append(name)
        return value

    return measure


def test_each_side_begins_in_every_second_turn() -> None:
    calls: list[str] = []
    turns = take_turns(named(calls, "ours", 6), named(calls, "theirs", 2), 3)
    assert calls == ["ours", "theirs", "theirs", "ours", "ours", "theirs"]
    assert turns == Turns((6, 6, 6), (2, 2, 2))


def test_process_of_its_own_for_each_measurement() -> None:
    measure = in_a_process(os.getpid)
    assert len({measure(), measure(), os.getpid()}) == 3


def test_ratio_is_taken_turn_by_turn() -> None:
    turns = Turns(ours=(4.0, 10.0), theirs=(2.0, 20.0))
    assert turns.ratios() == (2.0, 0.5)
    assert turns.differences() == (2.0, -10.0)


def test_figure_is_the_median_with_lowest_and_highest() -> None:
    assert line((2.0, 4.0, 3.5)).figure() == "3.50 times (2.00 to 4.00)"
    assert line((2.0,)).figure() == "2.00 times"


@pytest.mark.parametrize(
    ("figures", "bound", "verdict"),
    [
        ((1.0, 3.0, 9.0), "at least", "met"),
        ((1.0, 2.5, 9.0), "at least", "missed by 0.50 times"),
        ((1.0, 3.0, 9.0), "at most", "met"),
        ((1.0, 3.25, 9.0), "at most", "missed by 0.25 times"),
    ],
)
def test_mark_is_met_by_the_median(figures: tuple[float, ...], bound: str, verdict: str) -> None:
    assert line(figures, Mark(bound, 3, " times")).verdict() == verdict  # type: ignore[arg-type]


def test_figure_without_a_mark_has_no_verdict() -> None:
    shown = line((2.0, 4.0), Mark("no mark", 0, " times"))
    assert (shown.figure(), str(shown.mark), shown.verdict()) == (
        "3.00 times (2.00 to 4.00)",
        "",
        "",
    )


def test_line_that_cannot_be_measured_says_why() -> None:
    unmeasured = Line("a GPU", "", "", (), THREE_TIMES, "no GPU here")
    assert unmeasured.verdict() == "no GPU here"
    assert unmeasured.figure() == "not measured"


def test_every_cell_and_limit_is_on_the_page() -> None:
    page = table.page({"memory": [line((2.0, 4.0, 3.5))], "stage": [line((1.0,))]}, "make bench")
    rows = [text for text in page.splitlines() if text.startswith("|")]
    assert len(rows) == 4
    # a bar that a backslash escapes ends no cell
    assert {len(re.findall(r"(?<!\\)\|", text)) for text in rows} == {len(table.HEADINGS) + 1}
    for said in ("3.50 times (2.00 to 4.00)", "at least 3 times", "met", "The disk."):
        assert said in page
    assert "`python -m benchmarks memory`" in rows[2]
    assert "`python -m benchmarks stage`" in rows[3]
    assert f"torch {version('torch')}" in page


def test_terminal_shows_names_in_brackets() -> None:
    shown = Line("a [bold] name", "", "", (3.0,), THREE_TIMES, "")
    console = Console(width=200, file=StringIO(), record=True)
    console.print(table.terminal_table({"memory": [shown]}))
    assert "a [bold] name" in console.export_text()


def test_unknown_row_is_refused_by_name(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        command_line.main(["ca_cnn_fp16"])
    assert ended.value.code == 2
    assert "'ca_cnn_fp16' is not one of ca_cnn_bf16" in capsys.readouterr().err


def test_folder_that_is_not_there_is_refused_before_anything_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(ROWS, "memory", lambda: pytest.fail("it was measured"))
    with pytest.raises(SystemExit) as ended:
        command_line.main(["memory", "--write", str(tmp_path / "none" / "page.md")])
    assert ended.value.code == 2
    assert "no such folder" in capsys.readouterr().err


@pytest.mark.parametrize("write", [False, True])
def test_some_rows_are_written_only_if_asked(
    write: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = tmp_path / "benchmarks.md"
    default_page = tmp_path / "default.md"
    monkeypatch.setattr(command_line, "PAGE", default_page)
    monkeypatch.setitem(ROWS, "memory", lambda: iter([line((3.0,))]))
    command_line.main(["memory", *(["--write", str(page)] if write else [])])
    assert page.exists() == write
    assert not default_page.exists()
    if write:
        assert f"`python -m benchmarks memory --write {page}`" in page.read_text()


@pytest.mark.parametrize("power", [0.5, 1.0, 2.0])
def test_growth_exponent_is_the_power(power: float) -> None:
    assert engines.growth_exponent(3 * 16**power, 3 * 100**power, 100 / 16) == pytest.approx(power)


def test_jobs_of_a_stage_are_summed(tmp_path: Path) -> None:
    for name, seconds in {"train_cnn_0": 2.5, "train_ca_cnn_1": 4.0, "report": 3.0}.items():
        (tmp_path / f"{name}.tsv").write_text(f"s\tmax_rss\n{seconds}\t1\n")
    assert list(engines.seconds_by_stage(tmp_path).items()) == [("train", 6.5), ("report", 3.0)]


@pytest.mark.parametrize(
    ("operation", "kind"),
    [
        ("aten::mkldnn_convolution", "convolutions"),
        ("aten::native_batch_norm_backward", "norms"),
        ("aten::threshold_backward", "activations"),
        ("aten::add_", "sums of gradients and maps"),
        ("aten::addmm", "products"),
        ("aten::empty", shares.REST),
        (
            "void at::native::batch_norm_backward_reduce_channels_last_kernel<4, c10::BFloat16>",
            "norms",
        ),
        ("sm80_xmma_wgrad_implicit_gemm_indexed_bf16bf16_bf16f32_f32_nhwckrsc", "convolutions"),
        ("void nhwcAddPaddingKernel<__nv_bfloat16, float>", "convolutions"),
        (
            "void at::native::(anonymous namespace)::CatArrayBatchedCopy_alignedK_contig",
            "joining maps",
        ),
        ("multi_tensor_apply_kernel<FusedOptimizerTensorListMetadata<4>>", "the optimiser"),
        (
            "unrolled_elementwise_kernel<at::native::direct_copy_kernel_cuda(at::TensorIter",
            "copies",
        ),
        ("vectorized_elementwise_kernel<8, launch_clamp_scalar(at::TensorIterator", "activations"),
    ],
)
def test_operation_is_of_its_kind(operation: str, kind: str) -> None:
    assert shares.kind_of(operation) == kind


def test_shares_are_of_all_the_time_and_the_largest_comes_first() -> None:
    times = {"aten::cat": 20.0, "aten::mkldnn_convolution": 50.0, "aten::convolution_backward": 5.0}
    assert shares.described({**times, "aten::empty": 25.0}) == (
        "55 % convolutions, 20 % joining maps, 25 % the rest"
    )


def test_peak_memory_is_the_commands_own() -> None:
    project = Project(Path(__file__).parent)
    held = 200_000_000
    python = project.pipeline()[0]
    filled = project.peak_bytes(python, "-c", f"b'1' * {held}")
    plain = project.peak_bytes(python, "-c", "pass")
    assert plain < 100_000_000  # that of this process, which has PyTorch, is far more
    assert filled - plain == pytest.approx(held, rel=0.05)


def test_made_up_splits_are_as_the_split_stage_writes_them(tmp_path: Path) -> None:
    size = processes.write_splits(tmp_path, {"train": 20, "validation": 10, "test": 30})
    dataset = arrays.read(tmp_path)
    assert dataset.images.shape == (60, 32, 32, 3)
    assert size == 60 * 32 * 32 * 3
    assert [len(dataset.rows(split)) for split in arrays.SPLITS] == [20, 10, 30]


def test_photographs_are_as_large_as_real_ones() -> None:
    photograph = folders.photograph(np.random.default_rng(0))
    assert photograph.size == (folders.WIDTH, folders.HEIGHT)
    file = BytesIO()
    photograph.save(file, "JPEG", quality=folders.QUALITY)
    assert 45_000 < len(file.getvalue()) < 85_000


def test_usual_loop_learns_the_recipe_that_it_is_given() -> None:
    with compute.prepare(Compute(device="cpu", precision="fp32", threads=1)) as hardware:
        training = Training.of("ca_cnn", 192, hardware)
        network = training.network()
        before = {name: value.clone() for name, value in network.state_dict().items()}
        speed = usual_loop.images_per_second(
            network, training.images, training.labels, cifar10_settings().train, 0, hardware.device
        )
    assert speed > 0
    assert math.isfinite(speed)
    after = network.state_dict()
    steps = {int(value) for name, value in after.items() if name.endswith("num_batches_tracked")}
    assert steps == {3}
    assert not all(torch.equal(before[name], after[name]) for name in before if "weight" in name)


def test_prepared_batch_takes_as_many_steps_as_the_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[int] = []
    with compute.prepare(Compute(device="cpu", precision="fp32", threads=1)) as hardware:
        training = Training.of("ca_cnn", 192, hardware)
        network = training.network()
        monkeypatch.setattr(Training, "network", lambda self: network)
        steps = next(name for name in network.state_dict() if name.endswith("batches_tracked"))
        training.epoch_seconds()
        taken.append(int(network.state_dict()[steps]))
        training.epoch_seconds_on_one_batch()
        taken.append(int(network.state_dict()[steps]))
    assert taken == [6, 12]


def test_machine_without_a_gpu_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    lines = list(gpu.gpu())
    assert len(lines) == 3
    assert {one.verdict() for one in lines} == {gpu.NO_GPU}
