"""What the two engines promise each other, with the real ones on the smoke preset."""

from __future__ import annotations

import csv
import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from tests.projects import (
    Project,
    copied,
    leave_densenets_and_one_seed,
    shared,
)

pytestmark = pytest.mark.slow
Copy = Callable[[Project], Project]

ARCHITECTURES = ("cnn", "ca_cnn", "densenet", "se_densenet")
SEEDS = (0, 1)

# what has a time in it is never the same twice
RUNS = [
    "data/raw/**/*",
    "data/splits/**/*",
    "data/trained/*/*/model.safetensors",
    "data/trained/*/*/train.json",
    "data/evaluated/*/*/logits.npy",
    "data/evaluated/*/*/metrics.json",
    "reports/figures/architectures/**/*",
]
COMPARISON = [
    "reports/figures/comparison/[!t]*",  # all but trade_off.svg
    "reports/plots/*",
    "reports/metrics.json",
    "reports/tables/[!rt]*",  # all but runs.csv and timings.csv
]


def stages_of(*architectures: str, seeds: tuple[int, ...] = SEEDS) -> set[str]:
    """The rules that belong to some architectures alone."""
    runs = {f"{model}_{seed}" for model in architectures for seed in seeds}
    return (
        {f"train_{run}" for run in runs}
        | {f"evaluate_{run}" for run in runs}
        | {f"explain_{model}" for model in architectures}
    )


ALL = stages_of(*ARCHITECTURES) | {"download", "split", "measure", "report"}


def deterministic(project: Project, patterns: list[str]) -> dict[str, str]:
    return {k: v for pattern in patterns for k, v in project.hashes(pattern).items()}


def learning_curves(project: Project, model: str) -> list[dict[str, str]]:
    """The history of a model's first run, without its time."""
    path = project.root / "data" / "trained" / model / "0" / "history.csv"
    rows = list(csv.DictReader(io.StringIO(path.read_text())))
    return [{name: value for name, value in row.items() if name != "seconds"} for row in rows]


# --- 1: one engine's work is the other's ----------------------------------------------------------


def test_after_snakemake_dvc_is_clean_and_nothing_is_planned(
    snakemade: Project, copy_of: Copy
) -> None:
    assert snakemade.ran() == ALL
    project = copy_of(snakemade)
    assert project.is_clean()
    assert project.plans_nothing()
    project.snakemake()
    assert project.ran() == set()


def test_every_rule_is_a_dvc_stage_with_its_resources(snakemade: Project) -> None:
    listed = snakemade.run("snakemake", "--list-rules").stdout.split()
    stages = snakemade.dvc("stage", "list", "--name-only").stdout.split()
    names = {stage.replace("@", "_").replace("-", "_") for stage in stages}
    assert set(listed) - {"all"} == names == ALL


# --- 2: the same bytes, whatever ran them ---------------------------------------------------------


def test_dvc_repro_gives_the_same_bytes(snakemade: Project, reproduced: Project) -> None:
    made = deterministic(reproduced, RUNS)
    assert len([name for name in made if name.endswith((".safetensors", "logits.npy"))]) == 4
    assert made.items() <= deterministic(snakemade, RUNS).items()
    for model in ("densenet", "se_densenet"):
        assert learning_curves(reproduced, model) == learning_curves(snakemade, model)


def test_plain_commands_give_the_same_bytes_without_an_engine(
    snakemade: Project, fresh: Project
) -> None:
    fresh.leave_architectures("cnn", "ca_cnn")
    fresh.edit("seeds: [0, 1]", "seeds: [0]")
    fresh.run("bash", "benchmarks/all_stages.sh")
    ours = deterministic(fresh, RUNS)
    kinds = ("logits.npy", ".safetensors", "/explain.json")
    assert len([name for name in ours if name.endswith(kinds)]) == 6  # of two networks
    assert ours.items() <= deterministic(snakemade, RUNS).items()
    assert (fresh.root / "reports" / "report.html").exists()
    assert not (fresh.root / "dvc.lock").exists()


def test_after_dvc_repro_snakemake_runs_no_stage_command(
    reproduced: Project, copy_of: Copy
) -> None:
    project = copy_of(reproduced)
    assert project.is_clean()
    project.snakemake()
    assert project.ran() == set()
    assert project.plans_nothing()
    assert project.is_clean()


# --- 3: a colleague's clone -----------------------------------------------------------------------


def test_clone_after_dvc_pull_runs_no_stage_command(
    snakemade: Project, copy_of: Copy, tmp_path: Path
) -> None:
    project = copy_of(snakemade)
    project.dvc("remote", "add", "--default", "storage", str(tmp_path / "storage"))
    project.commit("a remote")
    project.dvc("push")
    project.run("git", "clone", "--quiet", str(project.root), str(tmp_path / "clone"))
    clone = Project(tmp_path / "clone")
    clone.dvc("pull")
    clone.snakemake()
    assert clone.ran() == set()
    assert clone.is_clean()
    assert clone.run("git", "status", "--porcelain").stdout == ""
    assert clone.hashes("data/trained/**/*") == project.hashes("data/trained/**/*")


# --- 4: what a change runs again ------------------------------------------------------------------


CHANGE = ("    baseline: densenet\n", "    drop_rate: 0.1\n    baseline: densenet\n")
KILLED_RUN = "data/trained/se_densenet/0"


@pytest.fixture(scope="module")
def changed(snakemade: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A finished project after a change of one architecture, over what a killed run left of it."""

    def make(root: Path) -> None:
        project = copied(snakemade, root)
        # Snakemake copies outputs that are to be made again, and a SIGKILL leaves the copies behind
        shutil.copytree(root / KILLED_RUN, root / ".snakemake" / "backups" / KILLED_RUN)
        shutil.copytree(root / KILLED_RUN, (root / KILLED_RUN).with_name(".incomplete-0"))
        project.edit(*CHANGE)
        project.snakemake()

    return shared(tmp_path_factory, "changed", make)


def test_change_of_one_architecture_retrains_it_alone_and_back_restores_it(
    snakemade: Project, changed: Project, copy_of: Copy
) -> None:
    weights = snakemade.hashes("data/trained/**/model.safetensors")
    assert changed.ran() == stages_of("se_densenet") | {"measure", "report"}
    changed_weights = changed.hashes("data/trained/**/model.safetensors")
    differing = {name.split("/")[2] for name in weights if changed_weights[name] != weights[name]}
    assert differing == {"se_densenet"}

    project = copy_of(changed)
    project.edit(*reversed(CHANGE))
    project.snakemake()
    assert project.ran() == set()
    assert project.hashes("data/trained/**/model.safetensors") == weights
    assert project.is_clean()


def test_remains_of_a_killed_run_do_not_stop_the_next(changed: Project, copy_of: Copy) -> None:
    assert stages_of("se_densenet") <= changed.ran()
    assert not (changed.root / ".snakemake" / "backups" / KILLED_RUN).exists()
    assert copy_of(changed).is_clean()


def test_change_made_with_one_engine_is_seen_by_the_other(
    snakemade: Project, copy_of: Copy
) -> None:
    project = copy_of(snakemade)
    project.edit("  margin: 0.5 ", "  margin: 0.7 ")
    project.dvc("repro")
    assert project.is_clean()
    project.snakemake()
    assert project.ran() == set()
    source = project.root / "pipeline" / "figures" / "accuracy.py"
    source.write_text(source.read_text() + "\n# drawn better\n")
    project.snakemake()
    assert project.ran() == {"report"}  # a change of a drawing trains nothing
    assert "up to date" in project.dvc("repro").stdout


def test_comment_in_the_settings_or_a_touched_file_runs_nothing(
    snakemade: Project, copy_of: Copy
) -> None:
    project = copy_of(snakemade)
    project.edit("seeds: [0, 1]", "seeds: [0, 1]  # two will do")
    (project.root / "pipeline" / "training" / "loop.py").touch()
    assert project.plans_nothing()
    assert project.is_clean()


def test_change_of_a_networks_code_trains_all_again(snakemade: Project, copy_of: Copy) -> None:
    project = copy_of(snakemade)
    source = project.root / "pipeline" / "models" / "cnn.py"
    source.write_text(source.read_text() + "\n# thought over\n")
    planned = project.snakemake("--dry-run").stdout
    assert {name for name in ALL if f"rule {name}:" in planned} >= stages_of(*ARCHITECTURES)
    assert "rule split:" not in planned
    source.write_text(source.read_text().removesuffix("\n# thought over\n"))
    assert project.plans_nothing()


def test_stale_outputs_of_removed_runs_are_reported_and_pruned(
    snakemade: Project, reproduced: Project, copy_of: Copy
) -> None:
    project = copy_of(snakemade)
    leave_densenets_and_one_seed(project)
    project.snakemake()
    assert project.ran() == {"measure", "report"}
    printed = (project.root / "logs" / "report.log").read_text()
    for stale in ("data/trained/densenet/1", "data/trained/cnn", "architectures/cnn"):
        assert stale in printed
    project.run("python", "-m", "pipeline", "prune", "--yes")
    assert not list(project.root.glob("data/*/*/1"))
    assert len(list(project.root.glob("data/*/*/0"))) == 4
    project.snakemake()
    assert project.is_clean()
    assert (project.root / "logs" / "report.log").read_text() == (
        "wrote reports/report.md and reports/report.html\n"
    )
    everything = RUNS + COMPARISON  # as if there had never been another run
    assert deterministic(project, everything) == deterministic(reproduced, everything)


@pytest.mark.parametrize("output", ["data/splits", "data/trained/cnn/0"])
def test_deleted_output_comes_back_from_the_cache(
    output: str, snakemade: Project, copy_of: Copy
) -> None:
    project = copy_of(snakemade)
    before = project.hashes(f"{output}/[!.]*")
    assert len(before) > 1
    shutil.rmtree(project.root / output)
    project.snakemake()
    assert not project.ran()
    assert project.hashes(f"{output}/[!.]*") == before
    assert project.is_clean()


def test_output_changed_by_hand_is_not_believed(snakemade: Project, copy_of: Copy) -> None:
    project = copy_of(snakemade)
    weights = project.root / "data" / "trained" / "cnn" / "0" / "model.safetensors"
    before = weights.read_bytes()
    weights.write_bytes(before[:500])
    project.snakemake()
    assert weights.read_bytes() == before
    project.run(
        *["python", "-m", "pipeline", "train", "--model", "ca_cnn", "--seed", "1", "--out", "other"]
    )
    shutil.rmtree(project.root / "data/trained/cnn/0")
    (project.root / "other").rename(project.root / "data/trained/cnn/0")
    project.snakemake()
    assert weights.read_bytes() == before
    assert project.is_clean()


# --- 5: a stage that fails ------------------------------------------------------------------------


def test_failing_stage_leaves_the_others_running_and_is_where_the_next_run_starts(
    fresh: Project,
) -> None:
    right = "    <<: *cnn\n    attention: channel\n"
    unknown = "    family: torchvision\n    name: resnet19\n    small_inputs: true\n"
    fresh.leave_architectures("cnn", "ca_cnn")
    fresh.edit("seeds: [0, 1]", "seeds: [0]")
    fresh.edit(right, unknown)
    failed = fresh.snakemake(expect=1)
    log = (fresh.root / "logs" / "train_ca_cnn_0.log").read_text()
    assert "error: " in log
    assert "resnet19" in log
    assert "Traceback" not in log
    lines = [line for line in failed.stderr.splitlines() if line.startswith("train@ca_cnn-0 ")]
    assert "failed: error: " in lines[0]
    assert "resnet19" in lines[0]  # the reason is shown where the person looks first
    assert (fresh.root / "data/evaluated/cnn/0/metrics.json").exists()
    assert (fresh.root / "reports/figures/architectures/cnn/explain.json").exists()
    assert not (fresh.root / "data/trained/ca_cnn").exists()
    assert not (fresh.root / "reports/report.md").exists()

    fresh.edit(unknown, right)
    for log_file in (fresh.root / "logs").iterdir():
        log_file.unlink()
    fresh.snakemake()
    assert fresh.ran() == stages_of("ca_cnn", seeds=(0,)) | {"measure", "report"}
    assert fresh.is_clean()


# --- experiments ----------------------------------------------------------------------------------


def test_experiment_puts_another_candidate_forward_and_trains_nothing(
    snakemade: Project, compared: Project, copy_of: Copy
) -> None:
    printed = (compared.root / "logs" / "experiment").read_text()
    assert "Running stage 'report'" in printed
    assert "Running stage 'train" not in printed
    weights = "data/trained/**/model.safetensors"
    assert compared.hashes(weights) == snakemade.hashes(weights) != {}

    project = copy_of(compared)
    shown = list(csv.DictReader(io.StringIO(project.dvc("exp", "show", "--csv").stdout)))
    (row,) = [row for row in shown if row["Experiment"] == "other"]
    tables = project.root / "reports" / "comparison.csv"
    rows = {row["model"]: row for row in csv.DictReader(tables.open())}
    assert row["model"] == "se_densenet"
    assert float(row["accuracy"]) == pytest.approx(float(rows["se_densenet"]["accuracy"]), abs=1e-3)
    assert float(row["difference"]) == pytest.approx(
        float(rows["se_densenet"]["accuracy"]) - float(rows["densenet"]["accuracy"]), abs=1e-3
    )
    assert "`se_densenet`" in (project.root / "reports" / "report.md").read_text().splitlines()[0]


def test_metrics_and_plots_are_dvcs_too(snakemade: Project, copy_of: Copy) -> None:
    project = copy_of(snakemade)
    shown = json.loads(project.dvc("metrics", "show", "--json").stdout)
    metrics = shown[""]["data"]["reports/metrics.json"]["data"]
    runs = [
        json.loads(path.read_text())["accuracy"]
        for path in sorted(project.root.glob("data/evaluated/ca_cnn/*/metrics.json"))
    ]
    assert metrics["accuracy"] == pytest.approx(100 * sum(runs) / len(runs), abs=1e-3)
    project.dvc("plots", "show", "--out", "plots")
    page = (project.root / "plots" / "index.html").read_text()
    assert "Validation accuracy by epoch" in page
    assert "Confusion of the candidate" in page


# --- wrong settings -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("model: ca_cnn", "model: ca_cnnn", "'ca_cnnn' is not one of cnn, ca_cnn"),
        ("  epochs: 2 ", "  epochs: -2 ", "train.epochs: -2"),
        ("  margin: 0.5 ", "  margn: 0.5 ", "report.margn: no such setting"),
        ("  path: data/local ", "  path: photos ", "photos"),
    ],
)
def test_wrong_settings_end_both_engines_before_the_first_job(
    fresh: Project, old: str, new: str, message: str
) -> None:
    fresh.edit(old, new)
    printed = fresh.snakemake(expect=1).stderr
    (line,) = [line for line in printed.splitlines() if not line.startswith("Using ")]
    assert line.startswith("error: ")
    assert message in line
    done = fresh.dvc("repro", expect=255)
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert {path.name for path in (fresh.root / "data").iterdir()} == {"local"}


def test_unknown_candidate_ends_an_experiment_with_the_known_ones(
    snakemade: Project, copy_of: Copy
) -> None:
    project = copy_of(snakemade)
    done = project.dvc("exp", "run", "--set-param", "model=resnet", expect=255)
    assert "'resnet' is not one of cnn, ca_cnn, densenet, se_densenet" in done.stderr
    project.run("git", "checkout", "--", "params.yaml")
    project.dvc("checkout")
    assert (project.root / "reports" / "report.md").exists()


def test_lint_finds_nothing_but_that_rules_name_no_conda_environment(snakemade: Project) -> None:
    # the environment is .venv, the same for all rules
    printed = snakemade.run("snakemake", "--lint", expect=None).stderr
    assert "Lints for rule train_cnn_0" in printed
    found = {line.strip() for line in printed.splitlines() if line.startswith("    * ")}
    assert found <= {"* Specify a conda environment or container for each rule.:"}


def test_merge_keys_give_dvc_the_resolved_values(snakemade: Project) -> None:
    lock = yaml.safe_load((snakemade.root / "dvc.lock").read_text())
    values = lock["stages"]["train@ca_cnn-0"]["params"]["params.yaml"]["architectures.ca_cnn"]
    assert values["attention"] == "channel"
    assert values["channels"] == [8, 16]
