"""The Snakefile's rules, as the real Snakemake parses them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from dvc.dependency import param
from dvc.repo import Repo
from snakemake.api import SnakemakeApi
from snakemake.io import is_flagged
from snakemake.rules import Rule
from snakemake.settings.types import ConfigSettings, ResourceSettings, WorkflowSettings
from snakemake_interface_executor_plugins.settings import ExecMode

from pipeline.engines import snakemake
from pipeline.settings import presets

ROOT = Path(__file__).parents[2]
MODELS, SEEDS = ("cnn", "ca_cnn", "densenet", "se_densenet"), (0, 1)
REPORTED = {
    "reports/comparison.csv",
    "reports/figures/comparison",
    "reports/report.html",
    "reports/tables",
    *(f"reports/figures/architectures/{model}" for model in MODELS),
}


@contextmanager
def project_in(root: Path) -> Iterator[Path]:
    """The smoke preset in which nothing has run, without the code that stages depend on."""
    for name in ("Snakefile", "dvc.yaml"):
        shutil.copy(ROOT / name, root)
    shutil.copytree(ROOT / "captions", root / "captions")
    (root / "params.yaml").write_text(presets.text("smoke"))
    (root / "data" / "local").mkdir(parents=True)
    Repo.init(str(root), no_scm=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        # as they were, after the test
        patch.setenv("PATH", os.environ["PATH"])
        patch.setattr(param, "load_path", param.load_path)
        patch.setattr(shutil, "which", lambda name: None)  # no nvidia-smi
        yield root


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Path]:
    with project_in(tmp_path) as root:
        yield root


@pytest.fixture(scope="module")
def rules(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Rule]]:
    """The rules on a machine of four cores without a GPU."""
    with project_in(tmp_path_factory.mktemp("project")), parsed() as rules:
        yield rules


@contextmanager
def parsed(
    mode: ExecMode = ExecMode.DEFAULT, gpus: int | None = None, **config: bool
) -> Iterator[dict[str, Rule]]:
    """Parse the project's Snakefile for four cores as ``snakemake`` does; yield its rules."""
    resources = ResourceSettings(cores=4, resources={} if gpus is None else {"gpu": gpus})
    with SnakemakeApi() as api:
        workflow = api.workflow(
            resource_settings=resources,
            config_settings=ConfigSettings(config=config),
            workflow_settings=WorkflowSettings(exec_mode=mode),
            snakefile=Path("Snakefile"),
        )._workflow
        yield {rule.name: rule for rule in workflow.rules}


def resource(rule: Rule, name: str) -> Any:
    return rule.resources[name].value


def test_every_stage_is_a_rule_and_all_asks_for_every_output(rules: dict[str, Rule]) -> None:
    runs = {f"{model}_{seed}" for model in MODELS for seed in SEEDS}
    expected = {f"{stage}_{run}" for stage in ("train", "evaluate") for run in runs}
    expected |= {f"explain_{model}" for model in MODELS}
    assert set(rules) == expected | {"all", "download", "split", "measure", "report"}
    outputs = {str(path) for rule in rules.values() for path in rule.output}
    assert set(map(str, rules["all"].input)) == outputs
    assert len(outputs) == 4 + 2 * 8 + 1 + 4 + 9


def test_rule_has_the_edges_settings_and_files_of_its_stage(rules: dict[str, Rule]) -> None:
    rule = rules["evaluate_ca_cnn_1"]
    marker = ".cache/changes/evaluate_ca_cnn_1"
    splits = {"data/splits", "data/splits.json"}
    assert set(map(str, rule.input)) == {*splits, "data/trained/ca_cnn/1", marker}
    assert list(map(str, rule.output)) == ["data/evaluated/ca_cnn/1"]
    assert list(map(str, rule.log)) == ["logs/evaluate_ca_cnn_1.log"]
    assert str(rule.benchmark) == "benchmarks/evaluate_ca_cnn_1.tsv"
    assert rule.params["stage"] == "dvc.yaml:evaluate@ca_cnn-1"
    params = yaml.safe_load(presets.text("smoke"))
    assert rule.params["settings"] == {
        "architectures.ca_cnn": params["architectures"]["ca_cnn"],
        "compute": params["compute"],
        "evaluate.batch_size": params["evaluate"]["batch_size"],
    }


def test_stage_that_measures_time_runs_alone_and_first(rules: dict[str, Rule]) -> None:
    assert resource(rules["measure"], "_cores") == 4
    assert (rules["measure"].priority, rules["train_cnn_0"].priority) == (1, 0)
    assert resource(rules["train_cnn_0"], "_cores") == 1
    assert resource(rules["train_cnn_0"], "mem_mb") == 4000
    assert resource(rules["train_cnn_0"], "runtime") == 720
    assert resource(rules["measure"], "slurm_extra") == ""


def test_outputs_are_left_where_they_are_and_the_report_shows_those_that_say_something(
    rules: dict[str, Rule],
) -> None:
    outputs = [path for rule in rules.values() for path in rule.output]
    assert all(is_flagged(path, "update") for path in outputs)
    assert {path for path in outputs if is_flagged(path, "directory")} == {
        path for path in outputs if Path(path).suffix == ""
    }
    shown = {str(path): path.flags["report"] for path in outputs if "report" in path.flags}
    assert set(shown) == REPORTED
    for described in shown.values():
        assert Path(described.caption.get_path_or_uri(secret_free=True)).is_file()
    figures = shown["reports/figures/architectures/se_densenet"]
    assert figures.patterns == ["{name}.svg", "{name}.png"]
    assert figures.labels({"name": "feature_maps"}) == {
        "shows": "feature maps",
        "architecture": "se_densenet",
    }
    assert shown["reports/comparison.csv"].labels({}) == {"shows": "comparison"}


def test_only_one_training_at_a_time_has_the_gpu_of_this_machine(project: Path) -> None:
    with parsed() as rules:
        assert resource(rules["train_cnn_0"], "gpu") == 0  # there is none
    with parsed(gpu=True) as rules:
        assert resource(rules["train_cnn_0"], "gpu") == 1
        assert resource(rules["report"], "gpu") == 0
        assert rules["train_cnn_0"].workflow.global_resources["gpu"] == 1
    with parsed(gpus=3) as rules:
        assert rules["train_cnn_0"].workflow.global_resources["gpu"] == 3


@pytest.mark.parametrize("exclusive", [False, True])
def test_cluster_shares_out_its_gpus_and_nodes_itself(project: Path, exclusive: bool) -> None:
    with parsed(cluster=True, gpu=True, exclusive=exclusive) as rules:
        workflow = rules["measure"].workflow
        assert "gpu" not in workflow.global_resources
        assert resource(rules["measure"], "_cores") == 1
        assert resource(rules["measure"], "slurm_extra") == ("--exclusive" if exclusive else "")
        assert resource(rules["train_cnn_0"], "slurm_extra") == ""
        assert set(workflow._localrules) == {"download", "split", "report"}


def test_job_on_a_cluster_decides_nothing_again(project: Path) -> None:
    (project / "dvc.lock").write_text("schema: '2.0'\nstages: {}\n")
    (project / ".dvc" / "tmp" / "rwlock").write_text('{"wri')
    with parsed(ExecMode.REMOTE, cluster=True) as rules:
        assert ".cache/changes/split" in map(str, rules["split"].input)
    assert not (project / ".cache" / "changes").exists()
    assert (project / ".cache" / "corrupt" / "rwlock").exists()  # a job was killed while it wrote
    assert (project / "dvc.lock").exists()


def test_marker_is_newer_than_everything_only_if_the_stage_has_changed(tmp_path: Path) -> None:
    marker, output = tmp_path / "changes" / "split", tmp_path / "out"
    output.touch()
    snakemake.write_marker(marker, changed=True)
    assert marker.stat().st_mtime >= output.stat().st_mtime
    snakemake.write_marker(marker, changed=False)
    assert marker.stat().st_mtime == 1


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("margin:", "margn:", "params.yaml: report.margn: no such setting"),
        ("path: data/local", "path: photos", "'photos' does not exist"),
        ("path: data/local", "path: data", "the pipeline writes data/raw itself"),
    ],
)
def test_wrong_settings_are_reported_on_one_line(
    project: Path, old: str, new: str, message: str
) -> None:
    params = project / "params.yaml"
    params.write_text(params.read_text().replace(old, new))
    with pytest.raises(SystemExit, match=message) as error, parsed():
        pass
    assert "\n" not in str(error.value.code)


# --- what a person adds to the graph --------------------------------------------------------------


OWN = """
  publish:
    cmd: cp reports/report.md published.md && cat photos/cat.txt
    deps: [reports/report.md, photos]
    outs: [published.md]
  tell:
    cmd: cat published.md
    deps: [published.md]
"""
IN_A_FOLDER = """\
stages:
  plot:
    cmd: cp ../reports/metrics.json plot.json
    deps: [../reports/metrics.json]
    outs: [plot.json]
"""


@pytest.fixture
def extended(project: Path) -> Path:
    """Photos that DVC holds, two stages of a person's own, and one in a folder's dvc.yaml."""
    (project / "photos").mkdir()
    (project / "photos" / "cat.txt").write_text("a cat")
    Repo().add("photos")
    described = project / "dvc.yaml"
    described.write_text(described.read_text().replace("\nplots:\n", f"{OWN}\nplots:\n"))
    (project / "more").mkdir()
    (project / "more" / "dvc.yaml").write_text(IN_A_FOLDER)
    return project


def test_own_stages_are_rules_with_dvcs_addresses_and_held_files_are_none(
    extended: Path, rules: dict[str, Rule]
) -> None:
    with parsed(gpu=True) as own:
        assert set(own) - set(rules) == {"publish", "tell", "more_dvc_yaml_plot"}
        addresses = {name: rule.params["stage"] for name, rule in own.items() if name != "all"}
        known = {f"dvc.yaml:{stage.addressing}" for stage in Repo().stage.collect("dvc.yaml")}
        assert set(addresses.values()) == known | {"more/dvc.yaml:plot"}
        publish, plot, tell = own["publish"], own["more_dvc_yaml_plot"], own["tell"]
        assert {"reports/report.md", ".cache/changes/publish"} < set(map(str, publish.input))
        assert "photos" not in publish.input
        assert list(map(str, plot.output)) == ["more/plot.json"]
        assert "reports/metrics.json" in plot.input
        assert "published.md" in tell.input
        assert set(tell.output) <= set(own["all"].input)
        assert len(tell.output) == 1
        wanted = {"_cores": 1, "gpu": 0, "mem_mb": 4000, "runtime": 60}
        assert {name: resource(publish, name) for name in wanted} == wanted


def test_frozen_stage_is_named_and_is_no_job(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Repo().freeze("report")
    with parsed() as rules:
        assert "report" not in rules
        assert "reports/report.md" not in rules["all"].input
    said = "report is frozen: it stays as it is until dvc unfreeze report\n"
    assert said in capsys.readouterr().err


# --- jobs -----------------------------------------------------------------------------------------


def run(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    programs = [str(folder), str(Path(sys.executable).parent), os.environ["PATH"]]
    environment = os.environ | {"PATH": os.pathsep.join(programs), "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


SNAKEFILE = """\
from pipeline.engines import snakemake as engine

onstart:
    engine.remove_backups()

rule train_cnn_0:
    output: update(directory("out"))
    shell: "touch out/weights"
"""


def test_backups_of_a_killed_run_do_not_stop_the_next(tmp_path: Path) -> None:
    (tmp_path / "Snakefile").write_text(SNAKEFILE)
    (tmp_path / "out").mkdir()
    backup = tmp_path / ".snakemake" / "backups" / "out"
    backup.mkdir(parents=True)
    (backup / "weights").touch()
    done = run(tmp_path, "snakemake", "--cores", "1", "--force")
    assert done.returncode == 0, done.stderr
    assert not backup.exists()
    (tmp_path / "Snakefile").write_text(SNAKEFILE.replace("    engine.remove_backups", "    str"))
    backup.mkdir(parents=True)
    (backup / "weights").touch()
    assert run(tmp_path, "snakemake", "--cores", "1", "--force").returncode != 0
