"""What a run shows, in a log and on a terminal, with the real Snakemake."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from pipeline.engines.remaining import UnderWay, remaining
from pipeline.storage.running import Running
from tests.unit.made_terminal import environment, on_terminal, read_until

SNAKEMAKE = ("snakemake", "--cores", "1")
SNAKEFILE = """\
from types import SimpleNamespace
from pipeline.engines import display

stages = {
    "split": "echo one; echo 300 images",
    "train_cnn_0": TRAINING,
    "train_cnn_1": "exit 1",
    "report": "true",
}
names = {"train_cnn_0": "train@cnn-0", "train_cnn_1": "train@cnn-1"}
rules_of = [SimpleNamespace(name=n, address="dvc.yaml:" + names.get(n, n)) for n in stages]
display.show(workflow, rules_of)

rule all:
    default_target: True
    input: WANTED

for stage, command in stages.items():
    rule:
        name: stage
        output: touch(f"{stage}.out")
        log: f"logs/{stage}.log"
        params: command=command
        shell: "({params.command}) > {log}"
"""
PROGRESS = """\
mkdir -p .cache/checkpoints/cnn-0-0123; cd .cache/checkpoints/cnn-0-0123; \
echo '{"epochs": 10, "images": 200}' > training.json; \
echo epoch,validation_accuracy,seconds > history.csv; \
echo 1,0.25,2.0 >> history.csv; echo 2,0.5,2.0 >> history.csv; sleep 60"""


def write_snakefile(folder: Path, *wanted: str, training: str = "echo epoch 2; echo best") -> None:
    text = SNAKEFILE.replace("TRAINING", repr(training))
    outputs = [f"{name}.out" for name in wanted]
    (folder / "Snakefile").write_text(text.replace("WANTED", repr(outputs)))


def snakemake(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        (*SNAKEMAKE, *arguments),
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def test_log_has_a_line_for_each_stage_that_ends_and_one_for_all(tmp_path: Path) -> None:
    write_snakefile(tmp_path, "split", "train_cnn_0", "report")
    lines = snakemake(tmp_path).stderr.splitlines()
    shown = [re.sub(r"\d+(\.\d)? s\b", "T", line) for line in lines if "[" in line]
    assert sorted(line.partition("] ")[2] for line in shown) == [
        "in T",
        "report                   up to date or taken from the cache",
        "split                    300 images (T)",
        "train@cnn-0              best (T)",
    ]
    assert [line.partition("]")[0] for line in shown] == ["[1/3", "[2/3", "[3/3", "[3/3"]
    assert not any(word in line for line in lines for word in ("jobid", "rule ", "Finished"))
    again = snakemake(tmp_path)
    assert "Nothing to be done" in again.stderr
    assert "[" not in again.stderr


def test_failed_stage_is_named_once_with_its_reason_and_the_rest_goes_on(tmp_path: Path) -> None:
    write_snakefile(tmp_path, "train_cnn_1", "split")
    done = snakemake(tmp_path, "--retries", "1", "--keep-going")
    assert done.returncode == 1
    assert done.stderr.count("train@cnn-1") == 1
    line = "train@cnn-1 failed: it did not start; its log: logs/train_cnn_1.log\n"
    assert line in done.stderr
    assert "300 images" in done.stderr
    assert "CalledProcessError" not in done.stderr
    write_snakefile(tmp_path, "train_cnn_0", training="echo one; echo two; exit 1")
    assert "train@cnn-0 failed: two; its log: logs/train_cnn_0.log\n" in snakemake(tmp_path).stderr


def test_job_that_never_started_is_not_given_an_earlier_runs_reason(tmp_path: Path) -> None:
    write_snakefile(tmp_path, "split")
    snakefile = tmp_path / "Snakefile"
    snakefile.write_text(snakefile.read_text().replace("({params.command}) > {log}", "exit 1"))
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "split.log").write_text("an old error\n")
    stderr = snakemake(tmp_path).stderr
    assert "split failed: it did not start" in stderr
    assert "an old error" not in stderr


@pytest.mark.parametrize("option", ["--verbose", "--printshellcmds", "--dry-run"])
def test_who_asks_for_snakemakes_own_words_gets_them(option: str, tmp_path: Path) -> None:
    write_snakefile(tmp_path, "split")
    done = snakemake(tmp_path, option)
    assert done.returncode == 0
    assert "rule split:" in done.stdout + done.stderr


def test_outputs_that_are_touched_are_not_said_to_have_been_made(tmp_path: Path) -> None:
    write_snakefile(tmp_path, "split")
    snakemake(tmp_path)
    (tmp_path / "logs" / "split.log").write_text("an old error\n")
    touched = snakemake(tmp_path, "--touch", "--forceall")
    assert touched.returncode == 0
    assert "an old error" not in touched.stderr


def test_error_of_snakemake_itself_is_shown(tmp_path: Path) -> None:
    write_snakefile(tmp_path, "split", "nowhere")
    done = snakemake(tmp_path)
    assert done.returncode == 1
    assert "nowhere.out" in done.stderr


# --- on a terminal --------------------------------------------------------------------------------


@pytest.mark.parametrize("columns", [80, 200])
def test_terminal_shows_what_runs_and_what_is_left_and_a_kill_leaves_it_sane(
    columns: int, tmp_path: Path
) -> None:
    write_snakefile(tmp_path, "train_cnn_0", training=PROGRESS)
    with on_terminal(SNAKEMAKE, tmp_path, columns) as (running, screen):
        text = read_until(screen, "images/s")
        text += read_until(screen, "left")
        running.kill()
        running.wait()
    assert "0 of 1 stages" in text
    assert "about 16 s left" in text  # eight epochs of two seconds
    assert "epoch 2/10, validation accuracy 50.0%, 100 images/s" in text
    for hidden_cursor_or_other_screen in ("\x1b[?25l", "\x1b[?1049h", "\x1b[?47h"):
        assert hidden_cursor_or_other_screen not in text


def test_terminal_keeps_the_lines_and_clears_the_rest(tmp_path: Path) -> None:
    write_snakefile(tmp_path, "split")
    with on_terminal(SNAKEMAKE, tmp_path) as (_, screen):
        text = read_until(screen, "[1/1] in ")
    assert "[1/1] split                    300 images (" in text


# --- what is left ---------------------------------------------------------------------------------


def training(run: str, epochs: int, seconds: float, done: int) -> Running:
    history = [{"epoch": n + 1.0, "seconds": seconds} for n in range(done)]
    return Running(run, 0.0, 0.0, epochs, 100, history)


def test_time_left_is_that_of_the_same_architecture_else_of_the_others() -> None:
    took = {"train@cnn-0": 10.0, "train@cnn-1": 14.0, "evaluate@cnn-0": 2.0}
    assert remaining(took, [], ["train@cnn-2", "train@cnn-3"]) == "about 24 s left"
    assert remaining(took, [], ["train@densenet-0", "evaluate@cnn-1"]) == "about 14 s left"
    assert remaining(took, [], ["train@cnn-2", "explain@cnn"]) == "at least 12 s left"
    assert remaining({}, [], ["train@cnn-0"]) == ""


def test_time_left_of_what_runs_is_shared_out_among_the_jobs() -> None:
    slow = UnderWay("train@dense-0", 31.0, training("dense-0", 10, 10.0, 3))
    new = UnderWay("train@dense-1", 5.0, training("dense-1", 10, 10.0, 0))
    other = UnderWay("evaluate@cnn-0", 3.0, None)
    assert remaining({}, [slow], []) == "about 70 s left"
    assert remaining({}, [slow], ["train@dense-1"]) == "about 2.8 min left"  # 70 + 100 s
    assert remaining({}, [slow, new], []) == "about 82 s left"  # (70 + 95) / 2
    assert remaining({"evaluate@cnn-1": 5.0}, [other], []) == "about 2.0 s left"
    assert remaining({"evaluate@cnn-1": 2.0}, [other], []) == ""
