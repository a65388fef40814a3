"""Training without PyTorch's compiler."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import torch

COMPILER = "torch._dynamo"


class _StandIn(ModuleType):
    """What optimisers need of the compiler. Whoever asks for more gets the compiler itself."""

    def disable(self, function: Callable[..., Any], *_: Any, **__: Any) -> Callable[..., Any]:
        return function

    def graph_break(self, *_: Any) -> None:
        pass

    def __getattr__(self, name: str) -> Any:
        _remove(self)
        import torch._dynamo

        return getattr(torch._dynamo, name)


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
    stand_in = _StandIn(COMPILER)
    sys.modules[COMPILER] = torch._dynamo = stand_in
    try:
        yield
    finally:
        _remove(stand_in)


def _remove(stand_in: _StandIn) -> None:
    if sys.modules.get(COMPILER) is stand_in:
        del sys.modules[COMPILER], torch._dynamo
