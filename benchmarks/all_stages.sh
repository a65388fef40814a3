#!/usr/bin/env bash
# All stages of params.yaml, one after the other, where there is no DVC or Snakemake:
# bash benchmarks/all_stages.sh
# Nothing is cached: every stage runs, but download where its output is there.
set -euo pipefail
cd "$(dirname "$0")/.."

JOBS=${JOBS:-2} # at once: one starts while another has the GPU
list() { python -c "from pathlib import Path; from pipeline.settings.load import load; s = load(Path('params.yaml')); print(*s.$1, sep='\n')"; }
models=$(list architectures)
seeds=$(list seeds)
# every --model with every --seed, a line each
runs=$(for seed in $seeds; do for model in $models; do echo "--model $model --seed $seed"; done; done)
each() { xargs -P "$JOBS" -L 1 python -m pipeline "$1"; }

python -m pipeline check
[ -d data/raw ] || python -m pipeline download
python -m pipeline split
each train <<<"$runs"
each evaluate <<<"$runs"
python -m pipeline measure
for model in $models; do echo "--model $model"; done | each explain
python -m pipeline report
