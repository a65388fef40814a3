"""What is recorded is what ran: a run whose settings, code or inputs change meanwhile fails."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.projects import Project, checkout, shared, started, wait_until

pytestmark = pytest.mark.slow

WEIGHTS = "data/trained/cnn/0/model.safetensors"
ENGINES = {
    "dvc": ["dvc", "repro", "--single-item", "train@cnn-0"],
    "snakemake": ["snakemake", "--cores", "1", "data/trained/cnn/0"],
}
EPOCHS = 400


@pytest.fixture(scope="module")
def divided(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project whose images are divided, with one long training ahead, and a branch ``other``."""

    def make(root: Path) -> None:
        project = checkout(root)
        project.leave_architectures("cnn")
        project.edit("seeds: [0, 1]", "seeds: [0]")
        project.edit("  epochs: 2 ", f"  epochs: {EPOCHS} ")
        project.dvc("repro", "split")
        project.commit("divided")
        project.run("git", "checkout", "--quiet", "-b", "other")
        lower_rate(project)
        project.commit("a lower rate")
        project.run("git", "checkout", "--quiet", "main")

    return shared(tmp_path_factory, "divided", make)


def lower_rate(project: Project) -> None:
    project.edit("  learning_rate: 0.001 ", "  learning_rate: 0.0005 ")


def add_a_comment(project: Project) -> None:
    with (project.root / "pipeline/training/step.py").open("a") as file:
        file.write("# an afterthought\n")


def check_out_another_branch(project: Project) -> None:
    project.run("git", "checkout", "--quiet", "other")


def replace_an_image(project: Project) -> None:
    path = project.root / "data/splits/images.npy"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.chmod(0o644)
    path.write_bytes(content)


def while_it_trains(
    project: Project, engine: list[str], change: Callable[[Project], None]
) -> tuple[int, str]:
    """Change something when the first epoch is over; return exit code and output of the engine."""
    printed = project.root / "printed"

    def said() -> str:
        logs = [printed, *(project.root / "logs").glob("train_*.log")]
        return "".join(path.read_text() for path in logs if path.exists())

    with started(project, engine, printed) as running:
        wait_until(lambda: ": loss " in said(), 120, said, running)
        change(project)
        code = running.wait(300)
    return code, said()


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lower_rate, "params.yaml: train.learning_rate: 0.001, now 0.0005"),
        (add_a_comment, "pipeline/training/step.py"),
        (check_out_another_branch, "params.yaml: train.learning_rate: 0.001, now 0.0005"),
        (replace_an_image, "data/splits/images.npy"),
    ],
    ids=["settings", "code", "branch", "images"],
)
def test_change_during_a_training_ends_it_and_nothing_is_recorded(
    engine: str,
    change: Callable[[Project], None],
    named: str,
    divided: Project,
    copy_of: Callable[[Project], Project],
) -> None:
    project = copy_of(divided)
    code, printed = while_it_trains(project, ENGINES[engine], change)
    assert code != 0
    lines = [line for line in printed.splitlines() if "changed during this training" in line]
    assert named in lines[0]
    assert lines[0].endswith("run again")
    assert "Traceback" not in printed
    assert f"epoch {EPOCHS}/{EPOCHS}" not in printed  # at once, not at its end
    assert "train@cnn-0" not in (project.root / "dvc.lock").read_text()
    assert "train@cnn-0" in project.dvc("status").stdout
    (kept,) = (project.root / ".cache/checkpoints").iterdir()
    assert list(kept.glob("epoch-*.pt"))


def test_training_goes_on_when_what_it_does_not_depend_on_changes(
    divided: Project, copy_of: Callable[[Project], Project]
) -> None:
    def change(project: Project) -> None:
        project.edit("  margin: 0.5 ", "  margin: 0.75 ")
        with (project.root / "pipeline/figures/style.py").open("a") as file:
            file.write("# an afterthought\n")

    project = copy_of(divided)
    project.edit(f"  epochs: {EPOCHS} ", "  epochs: 40 ")
    code, printed = while_it_trains(project, ENGINES["dvc"], change)
    assert code == 0, printed
    assert "train@cnn-0" in (project.root / "dvc.lock").read_text()


def test_settings_put_back_let_the_training_resume(
    divided: Project, copy_of: Callable[[Project], Project]
) -> None:
    project = copy_of(divided)
    while_it_trains(project, ENGINES["dvc"], lower_rate)
    project.edit("  learning_rate: 0.0005 ", "  learning_rate: 0.001 ")
    _, printed = while_it_trains(project, ENGINES["dvc"], replace_an_image)
    assert re.search(r"resumes after epoch \d+/", printed)


def test_training_recorded_under_settings_that_did_not_make_it_is_used_by_no_stage(
    snakemade: Project, copy_of: Callable[[Project], Project]
) -> None:
    """As when params.yaml changes in the moment between a command's end and DVC's note."""
    project = copy_of(snakemade)
    project.edit("  learning_rate: 0.001 ", "  learning_rate: 0.0005 ")
    project.dvc("commit", "--force", "train")
    assert "train@" not in project.dvc("status", "train").stdout
    for command in (
        ["dvc", "repro", "--single-item", "--force", "report"],  # first: DVC removes old outputs
        ["dvc", "repro", "--single-item", "--force", "evaluate@cnn-0"],
        ["dvc", "repro", "--single-item", "--force", "explain@cnn"],
    ):
        done = project.run(*command, expect=None)
        said = done.stdout + done.stderr
        assert done.returncode != 0
        assert "under other settings than those of params.yaml" in said
        assert "train.learning_rate: 0.001, now 0.0005" in said
        assert "again" in said


def test_code_changed_and_changed_back_while_it_is_imported_is_noticed(
    divided: Project, copy_of: Callable[[Project], Project]
) -> None:
    project = copy_of(divided)
    layers = project.root / "pipeline/models/layers.py"
    before = layers.read_text()
    printed = project.root / "printed"
    with started(project, ENGINES["dvc"], printed) as running:
        wait_until(lambda: "python -m pipeline stage" in printed.read_text(), 60)
        layers.write_text(before.replace('"relu": nn.ReLU', '"relu": nn.Tanh'))
        wait_until(lambda: "training and" in printed.read_text(), 60, printed.read_text, running)
        layers.write_text(before)
        assert running.wait(300) != 0
    assert "changed during this training: pipeline/models/layers.py" in printed.read_text()
    assert "train@cnn-0" not in (project.root / "dvc.lock").read_text()


def test_code_of_another_project_is_not_run(
    divided: Project, copy_of: Callable[[Project], Project]
) -> None:
    project = copy_of(divided)
    variables = f"PYTHONSAFEPATH=1 PYTHONPATH={divided.root}"
    command = f"{variables} python -m pipeline stage train@cnn-0"
    done = project.run("bash", "-c", command, expect=2)
    assert f"this project's code is not what runs, but that of {divided.root}" in done.stderr


def test_loss_whose_helper_dvc_does_not_know_is_refused(
    divided: Project, copy_of: Callable[[Project], Project]
) -> None:
    project = copy_of(divided)
    (project.root / "my_helper.py").write_text("def scale():\n    return 30.0\n")
    (project.root / "pipeline/training/my_losses.py").write_text(
        "from torch.nn.functional import cross_entropy\n"
        "from my_helper import scale\n\n\n"
        "def mine(logits, targets):\n"
        "    return scale() * cross_entropy(logits, targets)\n"
    )
    project.edit("  loss: cross_entropy ", "  loss: pipeline.training.my_losses.mine ")
    project.edit(f"  epochs: {EPOCHS} ", "  epochs: 2 ")
    done = project.dvc("repro", "--single-item", "train@cnn-0", expect=255)
    said = done.stdout + done.stderr
    assert "train.loss: 'pipeline.training.my_losses.mine': add my_helper.py to the deps" in said
    project.train_depends_on("my_helper.py")
    project.dvc("repro", "--single-item", "train@cnn-0")
    (project.root / "my_helper.py").write_text("def scale():\n    return 1.0\n")
    assert "my_helper.py" in project.dvc("status", "train@cnn-0").stdout


def test_weights_of_another_run_are_not_reported(
    snakemade: Project, copy_of: Callable[[Project], Project]
) -> None:
    project = copy_of(snakemade)
    weights = project.root / WEIGHTS
    weights.unlink()
    shutil.copy(project.root / "data/trained/cnn/1/model.safetensors", weights)
    done = project.run("python", "-m", "pipeline", "report", expect=2)
    assert f"data/evaluated/cnn/0/metrics.json: is of other weights than {WEIGHTS}" in done.stderr


def test_runs_of_different_code_are_not_compared(
    snakemade: Project, copy_of: Callable[[Project], Project]
) -> None:
    project = copy_of(snakemade)
    add_a_comment(project)
    for stage in ("train", "evaluate"):
        project.run("python", "-m", "pipeline", stage, "--model", "cnn", "--seed", "1")
    done = project.run("python", "-m", "pipeline", "report", expect=2)
    assert "trained by other code than" in done.stderr
    assert done.stderr.count("\n") == 1
