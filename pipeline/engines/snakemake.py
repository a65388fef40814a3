"""What stands in a rule of the Snakefile: one rule for each stage of DVC's own graph.

Snakemake compares times where DVC compares contents. So each rule has one more input, a marker:
newer than the outputs if DVC finds command, settings, code, inputs or outputs changed, else older.

A job on a cluster parses the Snakefile again, for its own rule. What runs has been decided by then,
so it writes no marker and leaves alone what other jobs may be using.

Written against Snakemake 9.27. What no manual promises, each with a test of its own in
tests/unit/test_rules.py: `is_main_process`, `global_resources`, `register_resource` and
`resource_settings.cores` of the workflow, ``.snakemake/backups``, and `update`,
which leaves an output where it is.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dvc.exceptions import DvcException
from dvc.scm import SCMError
from dvc.stage import PipelineStage
from snakemake.io import directory, report, touch
from snakemake.ioflags import update

from pipeline.engines import dvc_state, false_records, preflight
from pipeline.engines.dvc_graph import frozen_line
from pipeline.paths import (
    CHANGE_MARKERS,
    COMPARISON_FIGURES,
    COMPARISON_TABLE,
    CORRUPT_LOCKS,
    ENDED_MARKERS,
    EXPLAINED,
    OUTPUTS,
    PARAMS,
    REPORT_PAGE,
    TABLES,
)
from pipeline.settings.load import check_loss, load
from pipeline.system.errors import InputError
from pipeline.system.progress import say
from pipeline.system.text import printable
from pipeline.training.start_files import check_files

if TYPE_CHECKING:
    from dvc.output import Output
    from dvc.stage import Stage
    from snakemake.workflow import Workflow

# snakemake --report report.zip: by output, what it shows of it and where
FIGURES, CSV_FILES = {"patterns": ["{name}.svg", "{name}.png"]}, {"patterns": ["{name}.csv"]}
REPORTED: dict[Path, dict[str, Any]] = {
    REPORT_PAGE: {"caption": "page", "category": "Report"},
    COMPARISON_TABLE: {"caption": "comparison_table", "category": "Tables"},
    TABLES: {"caption": "tables", "category": "Tables", **CSV_FILES},
    COMPARISON_FIGURES: {"caption": "comparison", "category": "Comparison", **FIGURES},
    EXPLAINED: {"caption": "architectures", "category": "Architectures", **FIGURES},
}

SECONDS_BETWEEN_LOOKS = 1.0

# what a stage asks for whose `meta` in dvc.yaml doesn't say so
DEFAULTS = {"gpu": 0, "threads": 1, "processes": 1, "alone": False, "mem_mb": 4000, "runtime": 60}


@dataclass(frozen=True)
class StageRule:
    """The rule of one stage."""

    name: str  # the stage's as Snakemake can have it, such as ``train_cnn_0``
    address: str  # the stage's in DVC, such as ``dvc.yaml:train@cnn-0`` or ``more/dvc.yaml:plot``
    inputs: list[str]  # outputs of the stages that it waits for, and its marker
    outputs: list[str]  # a marker of its own for a stage that has none
    settings: dict[str, Any]  # the values of those that it depends on
    threads: int  # all of this machine's if it measures time, so that nothing runs beside it
    priority: int  # 1 for a stage that measures time, which has to wait for an idle machine
    resources: dict[str, int | str]  # as Slurm counts: `mem_mb` in MB, `runtime` in minutes
    is_local: bool  # whether it runs where Snakemake does, not as a job on a cluster


def stage_rules(workflow: Workflow, config: Mapping[str, Any]) -> list[StageRule]:
    """Check the settings, put DVC's own files right, and return a rule for each stage.

    Args:
        workflow: Snakemake's; the number of its GPUs is set where nothing else has set it.
        config: of the profile: `cluster`, `gpu` (whether there is one) and `exclusive`.

    Raises:
        SystemExit: with one line, if a setting is wrong or DVC can't read the project. A
            WorkflowError would be printed with lines of this code below it.
    """
    # programs of the environment in which Snakemake runs
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    is_main = workflow.is_main_process
    try:
        settings = load(PARAMS)
        check_loss(settings)
        preflight.check(settings, Path(), OUTPUTS)
        repo = dvc_state.open_repo()
        dvc_state.quarantine_corrupt_rwlock(repo, CORRUPT_LOCKS)
        if is_main:  # else another job may be writing it
            dvc_state.quarantine_corrupt_lock(repo, CORRUPT_LOCKS)
            check_files(settings)
        graph = dvc_state.read_graph(repo)
        # what `dvc add` or `dvc import` brought is no job, nor is a frozen stage: DVC compares it
        stages = [stage for stage in graph if isinstance(stage, PipelineStage) and not stage.frozen]
        if is_main:
            for name in sorted(stage.addressing for stage in graph if stage.frozen and stage.cmd):
                say(frozen_line(name))
            dvc_state.clamp_future_mtimes(_path(out) for stage in stages for out in stage.outs)
            false = false_records.find(dvc_state.locked_stages(repo))
            changed = dvc_state.changed_stages(stages)
            for name in [stage.addressing for stage in stages]:
                if name in false:
                    say(f"{false[name]}; it runs again")
                is_changed = name in changed or name in false
                write_marker(CHANGE_MARKERS / rule_name(name), is_changed)
    except SCMError as error:
        raise SystemExit(f"error: {error}: DVC needs one; make it with git init") from None
    except (InputError, DvcException) as error:
        raise SystemExit(f"error: {printable(str(error))}") from None

    on_cluster = config.get("cluster", False)  # which shares out its GPUs itself
    if not on_cluster and "gpu" not in workflow.global_resources:
        workflow.register_resource("gpu", settings.train.processes)
    cores = None if on_cluster else workflow.resource_settings.cores
    has_gpu = config.get("gpu", bool(shutil.which("nvidia-smi")))

    rules, jobs = [], set(stages)
    for stage in stages:
        name, meta = rule_name(stage.addressing), DEFAULTS | (stage.meta or {})
        alone, processes = meta["alone"], meta["processes"]
        waits_for = [other for other in graph.successors(stage) if other in jobs]
        rule = StageRule(
            name=name,
            # in a sub-folder it is complete; without a file's name it could be an output's
            address=stage.addressing if ":" in stage.addressing else f"dvc.yaml:{stage.addressing}",
            inputs=[*_paths(waits_for), str(CHANGE_MARKERS / name)],
            outputs=_paths([stage]) or [str(ENDED_MARKERS / name)],
            settings=dvc_state.settings_of(stage),
            threads=(alone and cores) or meta["threads"] * processes,
            priority=int(alone),
            resources={
                "gpu": meta["gpu"] if has_gpu else 0,
                "mem_mb": meta["mem_mb"] * processes,
                "runtime": meta["runtime"],
                "slurm_extra": "--exclusive" if alone and config.get("exclusive") else "",
            },
            is_local=meta["gpu"] == 0,
        )
        rules.append(rule)
    if is_main:
        for name, pid in running(rules).items():
            say(f"{name} is run by process {pid}, of an earlier or another run")
    return rules


def running(rules: Iterable[StageRule]) -> dict[str, int]:
    """Return the process of each stage that runs now, by its address."""
    writers = {os.path.relpath(path): pid for path, pid in dvc_state.running().items()}
    return {
        rule.address: writers[path] for rule in rules for path in rule.outputs if path in writers
    }


def wait_for_others(rules: Iterable[StageRule]) -> None:
    """Wait for the stages that another run has begun, such as one that was killed.

    They have the cores that this run would take, and times would be measured beside them. To be
    called when Snakemake holds its lock.
    """
    waiting: dict[str, int] = {}
    while others := running(rules):
        for name, pid in others.items() - waiting.items():
            print(f"waits for {name} of an earlier or another run (kill {pid} ends it)", flush=True)
        waiting = others
        time.sleep(SECONDS_BETWEEN_LOOKS)


def rule_name(addressing: str) -> str:
    """Return the name of a stage's rule: ``train_cnn_0`` of ``train@cnn-0``."""
    return re.sub(r"\W", "_", addressing)


def write_marker(marker: Path, changed: bool) -> None:
    """Write the file that is newer than all outputs if a stage has changed, and else older."""
    marker.parent.mkdir(parents=True, exist_ok=True)
    marker.write_text(f"changed, found at {time.time_ns()}\n" if changed else "unchanged\n")
    if not changed:
        os.utime(marker, (1, 1))


def flag_output(path: str) -> Any:
    """Return an output as Snakemake sees it: DVC finds it as it was, and the report shows it."""
    if Path(path).is_relative_to(ENDED_MARKERS):
        return touch(path)
    flagged = update(directory(path) if Path(path).suffix == "" else path)
    shown = next((REPORTED[place] for place in REPORTED if Path(path).is_relative_to(place)), None)
    if shown is None:
        return flagged
    architecture = {"architecture": Path(path).name} if Path(path).is_relative_to(EXPLAINED) else {}

    def labels(wildcards: Any) -> dict[str, str]:
        name = dict(wildcards.items()).get("name", Path(path).stem)
        return {"shows": name.replace("_", " "), **architecture}

    caption = f"captions/{shown['caption']}.rst"
    return report(flagged, **shown | {"caption": caption, "labels": labels})


def remove_backups() -> None:
    """Remove the copies of outputs that a killed run left: Snakemake would stop at them.

    To be called when it holds its lock.
    """
    shutil.rmtree(Path(".snakemake/backups"), ignore_errors=True)


def _path(out: Output) -> Path:
    return Path(out.fs_path)


def _paths(stages: Iterable[Stage]) -> list[str]:
    return sorted(os.path.relpath(out.fs_path) for stage in stages for out in stage.outs)
