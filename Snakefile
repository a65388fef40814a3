# One rule for each stage of dvc.yaml: DVC decides what is stale, Snakemake when and where it runs.
# pipeline/engines/snakemake.py works out what stands in a rule.

import gc

# Snakemake's modules stay until the end: no garbage collection, nor that at exit, goes through them
gc.freeze()

from pipeline.engines import display, snakemake as engine

report: "captions/workflow.rst"


stages = engine.stage_rules(workflow, config)
display.show(workflow, stages)


onstart:
    engine.remove_backups()
    engine.wait_for_others(stages)


rule all:
    default_target: True
    input:
        sorted(path for stage in stages for path in stage.outputs),


for stage in stages:

    rule:
        name: stage.name
        input:
            stage.inputs,
        output:
            [engine.flag_output(path) for path in stage.outputs],
        log:
            f"logs/{stage.name}.log",
        benchmark:
            f"benchmarks/{stage.name}.tsv"
        params:
            stage=stage.address,
            settings=stage.settings,
        threads: stage.threads
        priority: stage.priority
        resources:
            **stage.resources,
        localrule: stage.is_local
        shell:
            "exec python -m pipeline.engines.run_stage {params.stage:q} {log:q}"


# the same for the graph
gc.freeze()
