#!/usr/bin/env bash
# Tests and benchmarks on a machine with a GPU, without DVC or Snakemake: bash benchmarks/on_gpu.sh
# writes docs/benchmarks_gpu.md.
set -euo pipefail
cd "$(dirname "$0")/.."
export PYTHONPATH=.

python -c 'import torch; assert torch.cuda.is_available(), "PyTorch finds no GPU here"; print(torch.cuda.get_device_name(0), torch.__version__)'
python -m pytest tests/unit/test_gpu.py -p no:cacheprovider
python -m benchmarks gpu --write docs/benchmarks_gpu.md
