"""The files of weights that trainings start from, known by their checksum.

A file is no dependency in dvc.yaml: whether there is one, and which, differs by architecture. Its
SHA-256 is a setting of the architecture instead, so that DVC trains again when another content is
meant, and a file that isn't what the settings say is refused.
"""

from __future__ import annotations

import hashlib
import io
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.settings.schema import Architecture, Library, Settings
from pipeline.storage.checksums import checksum
from pipeline.system.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

DEFAULT = "default"
# PyTorch's convention, torch.hub.HASH_REGEX: a name ends in the first digits of its SHA-256
NAMED_CHECKSUM = re.compile(r"-([0-9a-f]{8,64})$")
SUFFIXES = (".safetensors", ".pth", ".pt")


@dataclass(frozen=True)
class StartFile:
    """A file of weights, checked."""

    path: Path
    sha256: str
    state: dict[str, Tensor]


def check_files(settings: Settings) -> None:
    """Check that the files of weights which the settings name are there, with their checksums.

    What is `default` is left to the training, since the library takes seconds to import.

    Raises:
        InputError: if one is missing, can't be read, or its checksum is another or not given.
    """
    for name, architecture in settings.architectures.items():
        if architecture.weights not in (None, DEFAULT):
            path, where = Path(architecture.weights), _where(name)
            try:
                sha256 = checksum(path)
            except OSError as error:
                raise _unreadable(path, where, error) from None
            _check(path, sha256, architecture, where)


def read(name: str, architecture: Architecture, downloads: Path) -> StartFile:
    """Return the weights that the architecture `name` starts from.

    Args:
        name: a key of `architectures` in params.yaml.
        architecture: its settings, which name weights.
        downloads: the folder of what the libraries' hosts offer, and of what is put there by hand.

    Raises:
        InputError: if there is no such file, nor can it be fetched; its checksum is another or not
            given; or it holds anything but tensors by name.
    """
    where = _where(name)
    if architecture.weights == DEFAULT:
        path = _fetched(architecture, where, downloads)
    else:
        path = Path(architecture.weights or "")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise _unreadable(path, where, error) from None
    sha256 = hashlib.sha256(content).hexdigest()
    _check(path, sha256, architecture, where)
    return StartFile(path, sha256, _tensors(path, content, where))


def _where(name: str) -> str:
    return f"params.yaml: architectures.{name}.weights"


def _unreadable(path: Path, where: str, error: OSError) -> InputError:
    return InputError(f"{where}: '{path}' can't be read: {error.strerror}")


def _check(path: Path, sha256: str, architecture: Architecture, where: str) -> None:
    named = NAMED_CHECKSUM.search(path.stem)
    is_named = named is not None and sha256.startswith(named[1])
    if architecture.sha256 == sha256 or (architecture.sha256 is None and is_named):
        return
    if architecture.sha256 is not None:
        raise InputError(
            f"{where}: '{path}' has the SHA-256 {sha256}, not that of sha256 beside it: it has "
            "changed. Put the old file back, or write the new checksum there to train from it"
        )
    if architecture.weights == DEFAULT:
        raise InputError(
            f"{where}: '{path}' is corrupt: its SHA-256 {sha256} does not begin as its name ends; "
            "remove it, and it is fetched again"
        )
    raise InputError(
        f"{where}: '{path}' needs its checksum beside it, so that DVC sees when other weights are "
        f"meant; add sha256: {sha256}"
    )


def _fetched(architecture: Architecture, where: str, downloads: Path) -> Path:
    """Return the library's own file, which is fetched if it isn't in `downloads`."""
    from pipeline.data.sources.fetching import UnreachableError, over_http
    from pipeline.models.library import weights_url

    assert isinstance(architecture, Library)  # the rules of settings see to it
    url = weights_url(architecture.family, architecture.name)
    if url is None or not NAMED_CHECKSUM.search(Path(url).stem):
        offer = f"offers {url}, without a checksum" if url else "has none"
        raise InputError(
            f"{where}: 'default': {architecture.family} {offer} for {architecture.name}; name a "
            "file that you fetched, or another network"
        )
    path = downloads / Path(url).name
    if path.is_file():
        return path
    try:
        return over_http(url, None, downloads)
    except UnreachableError as reason:
        raise InputError(
            f"{where}: 'default' can't be fetched ({reason}); get {url} on another machine, put "
            f"it into {downloads} and run again"
        ) from None


def _tensors(path: Path, content: bytes, where: str) -> dict[str, Tensor]:
    """Return the tensors in a file by name; nothing is unpickled but these."""
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load

    if path.suffix not in SUFFIXES:
        raise InputError(f"{where}: '{path}' is none of {', '.join(SUFFIXES)}")
    try:
        if path.suffix == ".safetensors":
            return load(content)
        state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except SafetensorError as error:
        raise InputError(f"{where}: '{path}' can't be read as safetensors ({error})") from None
    except Exception:  # a corrupt file may raise anything
        state = None
    if not isinstance(state, dict) or not all(
        isinstance(name, str) and torch.is_tensor(tensor) for name, tensor in state.items()
    ):
        raise InputError(
            f"{where}: '{path}' is no state dict alone, and anything else may run code when it is "
            "read; save it with torch.save(model.state_dict(), ...), or as safetensors"
        )
    return state
