# One rule for each stage of dvc.yaml: DVC decides what is stale, Snakemake when and where it runs.
# Why, and how the two share one graph: README.md, "Two engines, one graph".

import functools
import gc
import os
import re
import shutil
import sys
import time
from pathlib import Path
from shlex import quote

# Snakemake's modules stay until the end: no garbage collection, nor that at exit, goes through them
gc.freeze()

from dvc.dependency import param
from dvc.exceptions import DvcException
from dvc.repo import Repo
from dvc.scm import SCMError
from snakemake.exceptions import WorkflowError

from pipeline.engines import preflight, dvc_state
from pipeline.settings import load, schema
from pipeline.paths import OUTPUTS
from pipeline.system.text import printable
from pipeline.system.errors import InputError

report: "captions/workflow.rst"


# DVC would read params.yaml anew for each stage
param.load_path = functools.cache(param.load_path)

# settings: a mistake in them ends here, before the first job
try:
    settings = load.load(Path("params.yaml"))
    load.check_loss(settings)
    preflight.check(settings, Path(), OUTPUTS)
    dvc = Repo()
    if workflow.is_main_process:
        dvc_state.quarantine_corrupt_lock_files(dvc, Path(".cache/torn"))
    else:  # in a job on a cluster: another may have been killed since
        dvc_state.quarantine_corrupt_rwlock(dvc, Path(".cache/torn"))
except SCMError as error:
    raise WorkflowError(f"{error}: DVC needs one; make it with git init") from None
except (InputError, DvcException) as error:
    raise WorkflowError(printable(str(error))) from None

# programs: those of the environment in which Snakemake runs
shell.prefix(f"export PATH={quote(str(Path(sys.executable).parent))}:$PATH; ")

# graph: DVC's own, each stage with those that it waits for
graph = dvc_state.read_index(dvc).graph
made = {Path(out.fs_path) for stage in graph for out in stage.outs}
if workflow.is_main_process:
    dvc_state.clamp_future_mtimes(made)

# machine: this one, or with profiles/slurm the nodes of a cluster, which shares out its GPUs itself
on_cluster = config.get("cluster", False)
has_gpu = config.get("gpu", bool(shutil.which("nvidia-smi")))
if not on_cluster and "gpu" not in workflow.global_resources:
    workflow.register_resource("gpu", settings.train.processes)


def rule_name(stage):
    return re.sub(r"\W", "_", stage.addressing)


def paths(stages):
    return sorted(os.path.relpath(out.fs_path) for stage in stages for out in stage.outs)


def threads(stage):
    """All cores of this machine for a stage that measures time, so that nothing runs beside it."""
    alone = stage.meta.get("alone") and not on_cluster and workflow.resource_settings.cores
    return alone or stage.meta["threads"] * stage.meta.get("processes", 1)


def whole_node(stage):
    """What asks Slurm for a node of its own, for a stage that measures time, if the profile says so."""
    return "--exclusive" if stage.meta.get("alone") and config.get("exclusive") else ""


def is_made(path):
    return not made.isdisjoint([path, *path.parents])


def changes(stage):
    """A file newer than the outputs if DVC finds command, settings, code or outputs changed."""
    marker = Path(".cache/changes", rule_name(stage))
    if not workflow.is_main_process:  # in a job on a cluster: what runs has been decided
        return marker
    sources = [dep for dep in stage.deps if not is_made(Path(dep.fs_path))]
    compared = [*sources, *stage.outs]
    differing = [item for item in compared if item.workspace_status()]
    for out in stage.outs:
        if out in differing:
            dvc_state.force_cache_verification(out)
    changed = stage.changed_stage() or bool(differing)
    marker.parent.mkdir(parents=True, exist_ok=True)
    marker.write_text(f"changed, found at {time.time_ns()}\n" if changed else "unchanged\n")
    if not changed:
        os.utime(marker, (1, 1))
    return marker


# snakemake --report report.zip: by output, what it shows of it and where
REPORTED = {
    "reports/report.html": {"caption": "page", "category": "Report"},
    "reports/comparison.csv": {"caption": "comparison_table", "category": "Tables"},
    "reports/tables": {"caption": "tables", "category": "Tables", "patterns": ["{name}.csv"]},
    "reports/figures/comparison": {"caption": "comparison", "category": "Comparison", "patterns": ["{name}.png"]},
    "reports/figures/architectures": {"caption": "architectures", "category": "Architectures", "patterns": ["{name}.png"]},
}


def labels(out):
    """What tells the results of a category apart."""
    of_model = {"architecture": Path(out).name} if "architectures" in Path(out).parts else {}
    return lambda wildcards: {"shows": dict(wildcards.items()).get("name", Path(out).stem).replace("_", " "), **of_model}


def output(out):
    """An output as Snakemake sees it: DVC finds it as it was, and the report shows what says something."""
    flagged = update(directory(out) if Path(out).suffix == "" else out)
    place = next((shown for path, shown in REPORTED.items() if Path(out).is_relative_to(path)), None)
    if place is None:
        return flagged
    return report(flagged, **place | {"caption": f"captions/{place['caption']}.rst", "labels": labels(out)})


# copies of outputs that a killed run left would stop this one; it holds the lock by now
onstart:
    shutil.rmtree(".snakemake/backups", ignore_errors=True)


# what a job on a cluster prints stays on its node: here it is told what failed and where to read on
onerror:
    for job in workflow.scheduler.failed if on_cluster else []:
        stage = job.params.stage.partition(":")[2]
        said = Path(job.log[0]).read_text().splitlines() if Path(job.log[0]).is_file() else []
        print(f"{stage} failed: {said[-1] if said else 'it did not start'}; all it said: {job.log[0]}")


rule all:
    default_target: True
    input:
        paths(graph),


for stage in graph:

    rule:
        name:
            rule_name(stage)
        input:
            paths(graph.successors(stage)),
            changes(stage),
        output:
            [output(out) for out in paths([stage])],
        log:
            f"logs/{rule_name(stage)}.log",
        benchmark:
            f"benchmarks/{rule_name(stage)}.tsv"
        params:
            stage=f"dvc.yaml:{stage.addressing}",
            settings={key: value for dep in stage.params for key, value in dep.read_params().items()},
        threads: threads(stage)
        priority: 1 if stage.meta.get("alone") else 0
        resources:
            gpu=stage.meta["gpu"] if has_gpu else 0,
            mem_mb=stage.meta["mem_mb"] * stage.meta.get("processes", 1),
            runtime=stage.meta["runtime"],
            slurm_extra=whole_node(stage),
        localrule: stage.meta["gpu"] == 0
        shell:
            # who cancels a job ends the stage's command; DVC, told of that, puts its notes in order
            "trap '' TERM; stage='{params.stage}'; tell() {{ printf '%-24s %s\\n' \"${{stage#*:}}\" \"$1\"; }}; "
            "repro() {{ dvc --wait-for-lock repro $1 --single-item \"$stage\" > {log} 2>&1; }}; "
            # DVC, quiet, doesn't say why it refuses a stage: then it is asked aloud
            "repro --quiet || {{ [ ! -s {log} ] && repro; }} "
            '&& tell "$(tail -n 1 {log} | grep . || echo up to date or taken from the cache)" '
            '|| {{ tell "failed: $(tail -n 2 {log})"; exit 1; }}'


# the same for the graph
gc.freeze()
