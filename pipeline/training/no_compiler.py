"""Training without PyTorch's compiler."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import torch

COMPILER = "torch._dynamo"


def _as_it_is(function: Callable[..., Any], *_: Any, **__: Any) -> Callable[..., Any]:
    return function


@contextmanager
def without_compiler() -> Iterator[None]:
    """Have optimisers find a stand-in for the compiler, unless something has imported it.

    Their first step imports it, only to tell it what to leave alone: 2 s of processor time in every
    training, though nothing is compiled. Written against PyTorch 2.11 and 2.14, whose
    `torch/optim/optimizer.py` and `torch/_compile.py` call `disable` and `graph_break`.
    """
    if COMPILER in sys.modules:
        yield
        return
    stand_in = ModuleType(COMPILER)
    stand_in.disable = _as_it_is  # type: ignore[attr-defined]
    stand_in.graph_break = lambda *_: None  # type: ignore[attr-defined]
    sys.modules[COMPILER] = torch._dynamo = stand_in
    try:
        yield
    finally:
        del sys.modules[COMPILER], torch._dynamo
