"""Optimisers step without the compiler as with it, and it is there again afterwards."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from pipeline.engines.dvc_graph import ROOT

STEPS = """
import sys, torch
from contextlib import nullcontext
from pipeline.settings import presets
from pipeline.training.no_compiler import without_compiler
from pipeline.training.recipe import OPTIMIZERS

settings = presets.load("digits").train
with {context}():
    for name, make in OPTIMIZERS.items():
        torch.manual_seed(0)
        layer = torch.nn.Linear(4, 3)
        optimizer = make(layer.parameters(), settings)
        for _ in range(3):
            optimizer.zero_grad()
            layer(torch.randn(5, 4)).square().sum().backward()
            optimizer.step()
        print(name, layer.weight.flatten().tolist())
print("torch._dynamo.convert_frame" in sys.modules)
double = torch.compile(lambda x: 2 * x, backend="eager")
print(double(torch.ones(1)).item(), "torch._dynamo.convert_frame" in sys.modules)
"""


def printed(context: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", STEPS.format(context=context)],
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.splitlines()


def test_steps_are_the_same_bits_without_the_compiler_which_works_afterwards() -> None:
    *weights, imported, compiled = printed("nullcontext")
    assert [line.split()[0] for line in weights] == ["adam", "adamw", "sgd"]
    assert imported == "True"  # else PyTorch has mended it, and the stand-in can go
    assert compiled == "2.0 True"
    assert printed("without_compiler") == [*weights, "False", compiled]


def test_whoever_needs_more_than_optimisers_do_gets_the_compiler() -> None:
    program = (
        "import sys, torch\n"
        "from torch.utils.checkpoint import checkpoint\n"
        "from pipeline.training.no_compiler import without_compiler\n"
        "x = torch.ones(1, requires_grad=True)\n"
        "with without_compiler():\n"
        "    checkpoint(torch.exp, x, use_reentrant=False).backward()\n"
        "    print(round(x.grad.item(), 4), 'torch._dynamo.convert_frame' in sys.modules)\n"
        "    print(torch.compile(lambda x: 2 * x, backend='eager')(torch.ones(1)).item())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines() == ["2.7183 True", "2.0"]


def test_a_whole_training_never_imports_the_compiler(tmp_path: Path) -> None:
    program = (
        "import sys\n"
        "from pathlib import Path\n"
        "from pipeline.cli import main\n"
        "from pipeline.settings import presets\n"
        "Path('params.yaml').write_text(presets.text('smoke'))\n"
        "for command in ('download', 'split', 'train --model ca_cnn --seed 0'):\n"
        "    try:\n"
        "        main(command.split())\n"
        "    except SystemExit as ended:\n"
        "        assert not ended.code\n"
        "print('torch' in sys.modules, 'torch._dynamo.convert_frame' in sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert done.stdout.splitlines()[-1] == "True False"
