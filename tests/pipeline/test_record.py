"""What is recorded is what ran: a run whose settings, code or inputs change meanwhile fails."""

from __future__ import annotations

import copy
import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from pipeline.engines import dvc_files
from pipeline.engines.false_records import read_lock
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


@pytest.mark.parametrize(
    ("engine", "change", "named"),
    [
        ("dvc", lower_rate, "params.yaml: train.learning_rate: 0.001, now 0.0005"),
        ("dvc", add_a_comment, "pipeline/training/step.py"),
        ("snakemake", check_out_another_branch, "params.yaml: train.learning_rate: 0.001, now 0."),
        ("snakemake", replace_an_image, "data/splits/images.npy"),
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
    assert "; run again" in lines[0]
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
        assert "under other settings" in said
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


def test_what_stands_in_the_place_of_code_is_not_run_unnoticed(
    snakemade: Project, copy_of: Callable[[Project], Project]
) -> None:
    project = copy_of(snakemade)
    command = ("repro", "--single-item", "--force", "evaluate@cnn-0")
    module = project.root / "pipeline/evaluation/metrics.py"
    package = module.with_suffix("")
    package.mkdir()  # Python takes it before the file
    (package / "__init__.py").write_text(module.read_text())
    said = "pipeline/evaluation/metrics: Python runs this folder in place of metrics.py beside it"
    assert said in project.dvc(*command, expect=255).stderr
    shutil.rmtree(package)

    library = project.root / "copy.py"
    library.write_text(Path(copy.__file__).read_text())
    said = "this evaluation ran copy.py, of which DVC doesn't know"
    assert said in project.dvc(*command, expect=255).stderr
    library.unlink()

    for name in ("evaluation", "data"):  # of these the second is imported before the stage begins
        inside = project.root / "pipeline" / name / "__init__.py"
        before = inside.read_text()
        inside.write_text(f"{before}\nADDED = 1\n")
        said = f"this evaluation ran pipeline/{name}/__init__.py, of which DVC doesn't know"
        assert said in project.dvc(*command, expect=255).stderr
        inside.write_text(before)
    project.dvc(*command)


def test_failed_evaluation_that_is_committed_by_force_is_known_by_the_code_that_ran(
    snakemade: Project, copy_of: Callable[[Project], Project]
) -> None:
    project = copy_of(snakemade)
    metrics = project.root / "pipeline/evaluation/metrics.py"
    before = metrics.read_text()
    itself = f"from pathlib import Path\n\nPath(__file__).write_text({before!r})\n"
    metrics.write_text(f"{before}\n{itself}")  # put back as soon as it is imported
    done = project.dvc("repro", "--single-item", "--force", "evaluate@cnn-0", expect=255)
    assert metrics.read_text() == before
    said = done.stdout + done.stderr
    assert "changed during this evaluation: pipeline/evaluation/metrics.py" in said
    project.dvc("commit", "--force", "evaluate@cnn-0")
    done = project.run("python", "-m", "pipeline", "check")
    said = done.stdout + done.stderr
    assert "evaluate@cnn-0 is not what dvc.lock records" in said
    assert "by another pipeline/evaluation/metrics.py" in said


HELPED_LOSSES = {
    "import": (
        "from torch.nn.functional import cross_entropy\n"
        "from my_helper import scale\n\n\n"
        "def mine(logits, targets):\n"
        "    return scale() * cross_entropy(logits, targets)\n",
        "my_helper.py",
        "train.loss: 'pipeline.training.my_losses.mine': add my_helper.py to the deps",
    ),
    "late import": (
        "from torch.nn.functional import cross_entropy\n\n\n"
        "def mine(logits, targets):\n"
        "    from my_helper import scale\n\n"
        "    return scale() * cross_entropy(logits, targets)\n",
        "my_helper.py",
        "this training ran my_helper.py, of which DVC doesn't know: add it to the deps",
    ),
    "late import from the package": (
        "from torch.nn.functional import cross_entropy\n\n\n"
        "def mine(logits, targets):\n"
        "    from pipeline.commands.my_helper import scale\n\n"
        "    return scale() * cross_entropy(logits, targets)\n",
        "pipeline/commands/my_helper.py",
        "this training ran pipeline/commands/my_helper.py, of which DVC doesn't know",
    ),
}


@pytest.mark.parametrize("kind", HELPED_LOSSES)
def test_loss_whose_helper_dvc_does_not_know_is_refused(
    kind: str, divided: Project, copy_of: Callable[[Project], Project]
) -> None:
    project = copy_of(divided)
    loss, helper, refusal = HELPED_LOSSES[kind]
    (project.root / helper).write_text("def scale():\n    return 30.0\n")
    (project.root / "pipeline/training/my_losses.py").write_text(loss)
    project.edit("  loss: cross_entropy ", "  loss: pipeline.training.my_losses.mine ")
    project.edit(f"  epochs: {EPOCHS} ", "  epochs: 2 ")
    done = project.dvc("repro", "--single-item", "train@cnn-0", expect=255)
    assert refusal in done.stdout + done.stderr
    assert "train@cnn-0" not in (project.root / "dvc.lock").read_text()
    project.train_depends_on(helper)
    project.dvc("repro", "--single-item", "train@cnn-0")
    (project.root / helper).write_text("def scale():\n    return 1.0\n")
    assert helper in project.dvc("status", "train@cnn-0").stdout


LOSS = (
    "def mine(logits, targets):\n"
    "    from torch.nn.functional import cross_entropy\n"
    "    return cross_entropy(logits, targets)\n"
)


@pytest.mark.parametrize("kind", ["link", "project"])
def test_code_in_a_folder_into_which_dvc_does_not_look_is_refused(
    kind: str, divided: Project, copy_of: Callable[[Project], Project], tmp_path: Path
) -> None:
    project = copy_of(divided)
    folder = project.root / "pipeline/training/mine"
    if kind == "link":
        folder.symlink_to(tmp_path)
    else:
        (folder / ".dvc").mkdir(parents=True)
    (folder / "__init__.py").touch()
    (folder / "losses.py").write_text(LOSS)
    project.edit("  loss: cross_entropy ", "  loss: pipeline.training.mine.losses.mine ")
    done = project.dvc("repro", "--single-item", "train@cnn-0", expect=255)
    said = done.stdout + done.stderr
    what = "a link" if kind == "link" else "a DVC project of its own"
    assert f"pipeline/training/mine: is {what}: DVC would not see" in said
    assert "train@cnn-0" not in (project.root / "dvc.lock").read_text()


def test_weights_of_another_run_are_not_reported(
    snakemade: Project, copy_of: Callable[[Project], Project]
) -> None:
    project = copy_of(snakemade)
    weights = project.root / WEIGHTS
    weights.unlink()
    shutil.copy(project.root / "data/trained/cnn/1/model.safetensors", weights)
    done = project.run("python", "-m", "pipeline", "report", expect=2)
    assert (
        f"train@cnn-0 is not what dvc.lock records: {WEIGHTS} was made with seed 1" in done.stderr
    )


def test_runs_of_different_code_are_not_compared(
    snakemade: Project, copy_of: Callable[[Project], Project]
) -> None:
    project = copy_of(snakemade)
    add_a_comment(project)
    for stage in ("train", "evaluate"):
        project.run("python", "-m", "pipeline", stage, "--model", "cnn", "--seed", "1")
    done = project.run("python", "-m", "pipeline", "report", expect=2)
    assert (
        "data/trained/cnn/1/model.safetensors was made by another pipeline/training" in done.stderr
    )
    assert done.stderr.count("\n") == 1


MARGIN = ("params.yaml", "  margin: 0.5 ", "  margin: 0.75 ")
IN_THE_GAP = {
    "download": (
        ("params.yaml", "  image_size: 8 ", "  image_size: 9 "),
        "image_size: 8, now 9",
    ),
    "split": (
        ("pipeline/data/audit.py", "\n\n\n", "\n\n\n\n"),
        "pipeline/data/audit.py (md5",
    ),
    "measure": (
        ("params.yaml", "  latency_repeats: 5 ", "  latency_repeats: 6 "),
        "evaluate.latency_repeats: 5, now 6",
    ),
    "explain@cnn": (
        ("pipeline/explain/choice.py", "\n\n\n", "\n\n\n\n"),
        "by another pipeline/explain (md5 ",
    ),
}


def edit_in_the_gap(project: Project, stage: str, path: str, old: str, new: str) -> None:
    """Have something edited once when the stage's command has ended, before DVC notes anything."""
    (project.root / "edit.py").write_text(
        "from pathlib import Path\n"
        f"path, done = Path({path!r}), Path('edited')\n"
        "if not done.exists():\n"
        "    done.touch()\n"
        f"    path.write_text(path.read_text().replace({old!r}, {new!r}, 1))\n"
    )
    graph = project.root / "dvc.yaml"
    before, heading, rest = graph.read_text().partition(f"\n  {stage.partition('@')[0]}:\n")
    command = re.search(r"cmd: (.*)", rest)
    assert command
    rest = rest.replace(command[1], f"{command[1]} && python edit.py", 1)
    graph.write_text(before + heading + rest)


def false_records(project: Project) -> dict[str, str]:
    """What ``check`` says of records, by stage."""
    said = project.run("python", "-m", "pipeline", "check").stderr.splitlines()
    return {line.partition(" ")[0]: line for line in said if "is not what dvc.lock records" in line}


def is_up_to_date(project: Project, stage: str) -> bool:
    return "up to date" in project.dvc("status", stage).stdout


@pytest.mark.parametrize("stage", IN_THE_GAP)
def test_edit_between_a_command_and_its_note_is_found_and_made_good(
    stage: str, snakemade: Project, copy_of: Callable[[Project], Project]
) -> None:
    project = copy_of(snakemade)
    assert false_records(project) == {}
    edit, named = IN_THE_GAP[stage]
    edit_in_the_gap(project, stage, *edit)
    project.dvc("repro", "--single-item", stage)
    assert is_up_to_date(project, stage)
    line = false_records(project)[stage]
    assert named in line
    assert line.endswith(f"make it again: dvc repro -f -s {stage}")
    assert f"{stage} is not what dvc.lock records" in project.snakemake("--dry-run").stderr
    project.dvc("repro", "-f", "-s", stage)
    assert stage not in false_records(project)


def test_snakemake_runs_what_was_edited_in_the_gap_again(
    snakemade: Project, copy_of: Callable[[Project], Project]
) -> None:
    project = copy_of(snakemade)
    edit_in_the_gap(project, "report", *MARGIN)
    project.snakemake()
    verdict = json.loads((project.root / "reports/verdict.json").read_text())
    assert {pair["margin"] for pair in verdict["pairs"]} == {0.75}
    assert project.is_clean()
    assert false_records(project) == {}


def test_what_dvc_commit_vouches_for_is_found_and_run_again(
    snakemade: Project, copy_of: Callable[[Project], Project]
) -> None:
    project = copy_of(snakemade)
    project.edit("  margin: 0.5 ", "  margin: 0.75 ")
    with (project.root / "pipeline/explain/choice.py").open("a") as file:
        file.write("# an afterthought\n")
    project.dvc("commit", "--force")
    assert project.is_clean()
    explained = {f"explain@{model}" for model in ("cnn", "ca_cnn", "densenet", "se_densenet")}
    assert false_records(project).keys() == {"report", *explained}
    summary = project.run("python", "-m", "pipeline", "summary", expect=2)
    assert "report is not what dvc.lock records" in summary.stderr
    refused = project.run("python", "-m", "pipeline", "report", expect=2)
    assert "explain@cnn is not what dvc.lock records" in refused.stderr
    project.snakemake()
    assert project.ran() == {"report", *(name.replace("@", "_") for name in explained)}
    assert false_records(project) == {}
    assert project.is_clean()
    assert project.plans_nothing()


def test_report_that_is_vouched_for_with_other_times_is_found(
    snakemade: Project, copy_of: Callable[[Project], Project]
) -> None:
    project = copy_of(snakemade)
    for stage in ("measure", "train@cnn-0"):
        project.dvc("repro", "--force", "--single-item", stage)
        project.dvc("commit", "--force", "report")
        line = false_records(project)["report"]
        assert "reports/verdict.json was made from another data/" in line
        project.snakemake()
        assert false_records(project) == {}


def test_code_that_somebody_took_out_of_the_deps_is_named(
    snakemade: Project, copy_of: Callable[[Project], Project]
) -> None:
    """DVC finds no change then, and none when that code is edited."""
    project = copy_of(snakemade)
    graph = project.root / "dvc.yaml"
    before, heading, rest = graph.read_text().partition("\n  evaluate:\n")
    graph.write_text(
        before + heading + rest.replace("      - pipeline/stages/evaluate.py\n", "", 1)
    )
    with (project.root / "pipeline/stages/evaluate.py").open("a") as file:
        file.write("# an afterthought\n")
    project.dvc("commit", "--force", "evaluate@cnn-0")  # else when DVC next runs any of it
    line = false_records(project)["evaluate@cnn-0"]
    assert "by pipeline/stages/evaluate.py too, of which nothing is recorded" in line


def test_false_record_does_not_come_back_from_the_run_cache(
    snakemade: Project, copy_of: Callable[[Project], Project]
) -> None:
    project = copy_of(snakemade)
    path, old, new = MARGIN
    project.edit(old, new)
    edit_in_the_gap(project, "report", path, new, old)
    graph = (project.root / "dvc.yaml").read_text()
    (project.root / "edited").touch()
    project.edit(new, old)
    project.dvc("repro", "--single-item", "report")  # the right one comes first
    (project.root / "edited").unlink()
    project.edit(old, new)
    project.dvc("repro", "--single-item", "report")
    assert (project.root / "dvc.yaml").read_text() == graph
    assert false_records(project).keys() == {"report"}
    project.dvc("repro", "-f", "-s", "report")
    for value in ("  margin: 0.6 ", old):
        project.edit(old if value != old else "  margin: 0.6 ", value)
        project.dvc("repro", "--single-item", "report")
    verdict = json.loads((project.root / "reports/verdict.json").read_text())
    assert {pair["margin"] for pair in verdict["pairs"]} == {0.5}
    assert false_records(project) == {}


def test_outputs_that_were_committed_with_other_inputs_are_found(
    snakemade: Project, copy_of: Callable[[Project], Project]
) -> None:
    project = copy_of(snakemade)
    project.edit("  validation_fraction: 0.15 ", "  validation_fraction: 0.2 ")
    project.dvc("repro", "split")
    assert false_records(project) == {}  # of these it is DVC that says they have changed
    project.dvc("commit", "--force")
    assert project.is_clean()
    found = false_records(project)
    assert "from another data/splits than" in found["measure"]
    assert "train@cnn-0" in found
    assert "explain@cnn" in found


def test_outputs_of_two_branches_that_a_merge_brings_together_are_found(
    snakemade: Project, copy_of: Callable[[Project], Project]
) -> None:
    project = copy_of(snakemade)
    project.commit("run")
    # a little more than so far divides the images alike, twice as much doesn't
    for branch, digits in (("theirs", "3"), ("ours", "501")):
        project.run("git", "checkout", "--quiet", "-b", branch, "main")
        project.edit("  validation_fraction: 0.15 ", f"  validation_fraction: 0.1{digits} ")
        project.dvc("repro", "--single-item", "split")
        project.commit(branch)
    project.run("git", "merge", "--quiet", "--no-edit", "-X", "ours", "theirs")
    project.dvc("checkout")
    assert "splits.json was made with another" in false_records(project)["split"]
    project.dvc("repro", "-f", "-s", "split")
    assert "split" not in false_records(project)


def test_code_is_compared_by_the_checksums_of_dvc(snakemade: Project) -> None:
    stages = yaml.safe_load((snakemade.root / "dvc.lock").read_text())["stages"]
    code = {dep["path"]: dep["md5"] for stage in stages.values() for dep in stage["deps"]}
    code = {path: md5 for path, md5 in code.items() if path.startswith("pipeline/")}
    assert len(code) > 30
    assert any(md5.endswith(".dir") for md5 in code.values())
    assert {path: dvc_files.md5(snakemade.root / path) for path in code} == code


def test_compiled_code_of_another_source_is_not_run(fresh: Project) -> None:
    """Python itself goes by the second and the size of the source."""
    path, word = fresh.root / "pipeline/word.py", "import pipeline.word; print(pipeline.word.WORD)"
    path.write_text("WORD = 'old'\n")
    written = path.stat()
    fresh.run("python", "-m", "compileall", "-q", "pipeline/word.py")
    assert fresh.run("python", "-c", word).stdout == "old\n"
    path.write_text("WORD = 'new'\n")
    os.utime(path, ns=(written.st_atime_ns, written.st_mtime_ns))
    assert fresh.run("python", "-c", word).stdout == "new\n"


def test_a_few_stages_are_read_as_the_whole_lock_says(
    snakemade: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(snakemade.root)
    stages = yaml.safe_load((snakemade.root / "dvc.lock").read_text())["stages"]
    for names in (("split", "train@cnn-0"), ("report",), ("of no stage",)):
        expected = {name: stages[name] for name in names if name in stages}
        assert read_lock(*names) == expected
