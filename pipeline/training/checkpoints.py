"""Checkpoints of an unfinished training, from which it resumes after an interruption.

They lie outside the stage's outputs, since DVC deletes these before it runs a stage. Each is
written to a temporary file in the same folder, synced to the disk and renamed, so that a killed run
leaves a complete checkpoint or none; two generations are kept, should the newest become corrupt. A
checksum shows a corrupt file, a key one of another run: both are passed over with a warning.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
from pathlib import Path
from typing import Any

import torch

from pipeline.storage.atomic import atomic_file
from pipeline.storage.running import FINISHED
from pipeline.system.progress import say

GENERATIONS = 2
DIGEST_BYTES = hashlib.sha256().digest_size


class Checkpoints:
    """The checkpoints of one training run.

    Args:
        folder: of this run alone; it is made when the first one is saved.
        key: a hash of all that decides the run's result. A checkpoint with another is not used.
    """

    def __init__(self, folder: Path, key: str) -> None:
        self.folder = folder
        self._key = key
        self._passed_over: set[Path] = set()
        self._warned = False

    def save(self, epoch: int, state: dict[str, Any]) -> None:
        """Keep what is needed to resume after `epoch`.

        `state` is tensors and plain values, in dictionaries, lists and tuples. Where it can't be
        written, the training continues without, and a warning says so once.
        """
        payload = packed({"key": self._key, "epoch": epoch, "state": state})
        path = self.folder / f"epoch-{epoch:06d}.pt"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with atomic_file(path) as staging, staging.open("wb") as file:
                file.write(hashlib.sha256(payload).digest() + payload)
                file.flush()
                os.fsync(file.fileno())
            self._passed_over.discard(path)
            # all but the newest generations go, and what couldn't be used counts for none
            usable = [old for old in self._newest_first() if old not in self._passed_over]
            for old in [*usable[GENERATIONS:], *self._passed_over]:
                old.unlink(missing_ok=True)
            self._passed_over.clear()
        except OSError as error:
            if not self._warned:
                say(
                    f"warning: {self.folder}: no checkpoint can be written ({error.strerror}); "
                    "the training continues, but an interruption loses what it does from here on"
                )
                self._warned = True

    def latest(self, device: torch.device) -> tuple[int, dict[str, Any]] | None:
        """Return the newest usable epoch and its state, on `device`; warn of what can't be used."""
        for unfinished in self.folder.glob(".incomplete-*"):  # what a kill left
            with contextlib.suppress(OSError):
                unfinished.unlink()
        for path in self._newest_first():
            try:
                stored = path.read_bytes()
                digest, payload = stored[:DIGEST_BYTES], stored[DIGEST_BYTES:]
                if hashlib.sha256(payload).digest() != digest:
                    raise ValueError("it is corrupt: its checksum is wrong")
                content = unpacked(payload, device)
                if content["key"] != self._key:
                    raise ValueError("it is of another run: other settings, data, code or machine")
                return content["epoch"], content["state"]
            except Exception as error:  # a corrupt file may raise anything
                reason = (str(error) or type(error).__name__).splitlines()[0]
                say(f"warning: checkpoint {path} is not used: {reason}")
                self._passed_over.add(path)
        return None

    def finish(self) -> None:
        """Mark them as finished: `finished_checkpoints.remove_finished` removes them."""
        with contextlib.suppress(OSError):
            (self.folder / FINISHED).touch()

    def _newest_first(self) -> list[Path]:
        return sorted(self.folder.glob("epoch-*.pt"), reverse=True)


def key_of(parts: dict[str, Any], code: list[Path]) -> str:
    """Return a hash of the `repr` of all parts, and of files and folders of Python source."""
    digest = hashlib.sha256()
    for name in sorted(parts):
        digest.update(f"{name}={parts[name]!r}\n".encode())
    for given in code:
        for path in sorted(given.rglob("*.py")) if given.is_dir() else [given]:
            digest.update(path.read_bytes())
    return digest.hexdigest()


def packed(content: object) -> bytes:
    """Return plain values and tensors as bytes that `unpacked` reads without unpickling."""
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def unpacked(content: bytes, device: torch.device) -> Any:
    """Return what `packed` was given, its tensors on `device`."""
    return torch.load(io.BytesIO(content), map_location=device, weights_only=True)
