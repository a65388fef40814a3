#!/usr/bin/env bash
# One job of Snakemake: run_stage.sh STAGE LOG, where STAGE is such as dvc.yaml:train@cnn-0.
trap '' TERM # who cancels a job ends the stage's command; DVC then tidies up its own files
stage=$1 log=$2

say() { printf '%-24s %s\n' "${stage#*:}" "$1"; }
repro() { dvc --wait-for-lock repro "$@" --single-item "$stage" > "$log" 2>&1; }

# DVC, quiet, doesn't say why it refuses a stage: then it runs again without --quiet
if repro --quiet || { [ ! -s "$log" ] && repro; }; then
  say "$(tail -n 1 "$log" | grep . || echo up to date or taken from the cache)"
else
  say "failed: $(tail -n 2 "$log")"
  exit 1
fi
