"""Random streams that need no saving: each is made from (seed, epoch, purpose) when it is used.

A run that resumes at epoch e therefore draws what an uninterrupted run would have drawn there.
"""

from __future__ import annotations

import hashlib

import torch


def derive(seed: int, epoch: int, purpose: str) -> int:
    """Return the 63-bit seed of one stream, the same on every machine."""
    digest = hashlib.sha256(f"{seed}/{epoch}/{purpose}".encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


def generator(seed: int, epoch: int, purpose: str) -> torch.Generator:
    """Return a CPU generator for one stream: the draws don't depend on the training device."""
    return torch.Generator().manual_seed(derive(seed, epoch, purpose))
