"""dvc.yaml names all code that decides a stage's result: else a change would go unnoticed."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
import yaml

from pipeline.engines import dvc_graph
from pipeline.engines.dvc_graph import code_of_stage, settings_of_stage

ROOT = Path(__file__).parents[2]
STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]

# decide whether and how a stage runs, not what comes out
LEFT_OUT = {
    "pipeline",
    "pipeline.comparison",
    "pipeline.data",
    "pipeline.data.own_files",
    "pipeline.data.sources.fetching",  # what it gets is checked by who asks for it
    "pipeline.engines",
    "pipeline.engines.dvc_files",
    "pipeline.engines.dvc_graph",
    "pipeline.engines.dvc_view",
    "pipeline.engines.preflight",
    "pipeline.engines.unchanged",
    "pipeline.evaluation",
    "pipeline.figures",
    "pipeline.settings",
    "pipeline.settings.load",
    "pipeline.settings.recorded",
    "pipeline.settings.rules",
    "pipeline.settings.schema",
    "pipeline.settings.yaml_file",
    "pipeline.stages",
    "pipeline.stages.stale_outputs",
    "pipeline.statistics",
    "pipeline.storage",
    "pipeline.storage.atomic",
    "pipeline.storage.checksums",
    "pipeline.storage.reading",
    "pipeline.storage.records",
    "pipeline.storage.running",
    "pipeline.system",
    "pipeline.system.errors",
    "pipeline.system.machine",
    "pipeline.system.progress",
    "pipeline.training",
    "pipeline.training.finished_checkpoints",
}


def path_of(module: str) -> Path | None:
    stem = ROOT.joinpath(*module.split("."))
    return next(
        (path for path in (stem.with_suffix(".py"), stem / "__init__.py") if path.is_file()), None
    )


def imported(module: str) -> set[str]:
    """The modules of the pipeline that a module imports, anywhere in it."""
    path = path_of(module)
    assert path is not None
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("pipeline"):
            found.add(str(node.module))
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {name for name in found if path_of(name)}


def closure(module: str) -> set[str]:
    found, waiting = {module}, [module]
    while waiting:
        new = imported(waiting.pop()) - found - LEFT_OUT
        found |= new
        waiting += new
    return found


@pytest.mark.parametrize("stage", STAGES)
def test_stage_depends_on_all_the_code_that_it_imports(stage: str) -> None:
    deps = [ROOT / dep for dep in STAGES[stage]["deps"] if dep.startswith("pipeline")]
    for module in closure(f"pipeline.stages.{stage}"):
        path = path_of(module)
        assert path is not None
        assert any(path.is_relative_to(dep) for dep in deps), f"{stage} imports {module}"


@pytest.mark.parametrize("stage", STAGES)
def test_named_code_is_there(stage: str) -> None:
    for dep in STAGES[stage]["deps"]:
        if dep.startswith("pipeline"):
            assert (ROOT / dep).exists()


@pytest.mark.parametrize("stage", STAGES)
def test_code_of_a_stage_is_that_of_this_program_wherever_it_runs(
    stage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    expected = [ROOT / dep for dep in STAGES[stage]["deps"] if dep.startswith("pipeline/")]
    assert code_of_stage(stage) == expected != []
    assert all(path.exists() for path in code_of_stage(stage))


def test_stage_without_params_takes_the_whole_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dvc_graph, "read_stages", lambda: {"mine": {"cmd": "true", "deps": []}})
    assert settings_of_stage("mine") == []
