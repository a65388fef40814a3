"""What the evaluations of another git revision or DVC experiment answered, without a checkout.

`dvc.api.DVCFileSystem` reads DVC's cache, or a remote where that has more. What no manual promises,
with tests in tests/pipeline/test_compare_revisions.py: that it finds DVC experiments by name, the
checksum that it says a folder has, and its error where the cache lacks a folder.
"""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from dvc.api import DVCFileSystem
from dvc.exceptions import DvcException
from dvc.scm import RevError
from dvc_data.index import DataIndexDirError
from ruamel.yaml import YAML, YAMLError

from pipeline.engines import dvc_files
from pipeline.paths import EVALUATED, PARAMS, RAW, SPLITS
from pipeline.settings.recorded import flat, value_of
from pipeline.storage import records
from pipeline.storage.fingerprint import DESCRIPTION, INDEX, fingerprint
from pipeline.system.errors import InputError, choose


@dataclass(frozen=True)
class Answers:
    """What one network answered on its test images, ordered by their ids."""

    ids: np.ndarray  # int64 (N,), positions in the source
    labels: np.ndarray  # int64 (N,), the true classes
    classes: np.ndarray  # int64 (N,), the predicted ones


@dataclass(frozen=True)
class Revision:
    """The evaluations of one architecture in a git revision or DVC experiment."""

    name: str  # as it was given
    model: str  # the architecture
    source: str  # DVC's checksum of the source's own files
    folds: bool  # whether each run is tested on images of its own
    answers: dict[int, Answers]  # by seed


def read_revision(root: Path, name: str, model: str | None) -> Revision:
    """Read the evaluations of `model`, or else of the candidate, in a revision of a project.

    Args:
        root: of the project.
        name: of a git revision or a DVC experiment.
        model: an architecture; that which `model` in the revision's params.yaml names if None.

    Raises:
        InputError: if there is no such revision, it has no such results, or they are in neither
            DVC's cache nor its remote.
    """
    files = _open(root, name)
    params = _read(files, name, PARAMS, YAML(typ="safe").load)
    model = model or str(value_of(params, "model"))
    evaluated = _folders(files, name, EVALUATED)
    if not evaluated:
        raise InputError(f"{name}: no stage of its dvc.yaml writes {EVALUATED}")
    choose(model, evaluated, f"{name}: --model")
    load_origin = partial(records.parse, kind=records.Origin)
    load_evaluation = partial(records.parse, kind=records.Evaluation)
    for path in (RAW, SPLITS):
        origin = _read(files, name, path.with_suffix(".json"), load_origin)
        _refuse_other_origin(files, name, path, params, [origin.made_from])
        md5 = _md5_of_output(files, name, path)
        if origin.outputs.get(path.name, md5) != md5:
            raise InputError(
                f"{name}: {path} is of another run than {path}.json, as after a merge; check "
                "it out, run the pipeline and commit dvc.lock"
            )
    index = _read(files, name, SPLITS / INDEX)
    labels = _read(files, name, SPLITS / "labels.npy", _load_array)
    splits = fingerprint(index, _read(files, name, SPLITS / DESCRIPTION))
    with _reading(name, SPLITS / INDEX):
        rows = list(csv.DictReader(io.StringIO(index.decode())))
        ids = np.array([row["id"] for row in rows], np.int64)
        folds = "split" not in rows[0]
    with _reading(name, EVALUATED / model):
        seeds = sorted(map(int, _folders(files, name, EVALUATED / model)))
    answers = {}
    for seed in seeds:
        run = EVALUATED / model / str(seed)
        metrics = _read(files, name, run / "metrics.json", load_evaluation)
        origins = (metrics.trained_from, metrics.made_from)
        _refuse_other_origin(files, name, run, params, origins)
        keys = (key for key, _ in flat(metrics.made_from.settings))
        if not any(key.startswith(f"architectures.{model}.") for key in keys):
            raise InputError(f"{name}: {run} is of another architecture than {model}")
        if metrics.splits != splits:
            raise InputError(f"{name}: {run} is of other splits than {SPLITS}; run it again")
        column = f"run_{seed}" if folds else "split"
        tested = np.flatnonzero([row[column] == "test" for row in rows])
        logits = _read(files, name, run / "logits.npy", _load_array)
        if logits.ndim != 2 or len(logits) != len(tested) or not np.isfinite(logits).all():
            raise InputError(f"{name}: {run}/logits.npy does not fit {len(tested)} test images")
        in_order = tested[ids[tested].argsort()]
        predicted = logits[ids[tested].argsort()].argmax(axis=1)
        answers[seed] = Answers(ids[in_order], labels[in_order], predicted)
    return Revision(name, model, _md5_of_output(files, name, RAW), folds, answers)


def _open(root: Path, name: str) -> DVCFileSystem:
    try:
        files = DVCFileSystem(str(root), rev=name)
        _ = files.repo  # DVC opens it only now
    except RevError:
        raise InputError(
            f"{name}: no such git revision or DVC experiment; git log and dvc exp show list them"
        ) from None
    except (DvcException, OSError, AttributeError) as error:  # the last of what is no commit
        raise InputError(f"{name}: can't be read ({' '.join(str(error).split())})") from None
    return files


def _refuse_other_origin(
    files: DVCFileSystem,
    name: str,
    output: Path,
    params: Mapping[str, Any],
    origins: Iterable[records.MadeFrom],
) -> None:
    """Refuse an output that settings and code of the same revision did not make."""
    reasons = []
    for made in origins:
        for key, value in flat(made.settings):
            if (now := value_of(params, key)) != value:
                reasons.append(f"{PARAMS}: {key}: {value}, now {now}")
        reasons += [path for path, md5 in made.code.items() if _md5(files, path) != md5]
    if reasons:
        more = f" and {len(reasons) - 1} more" if len(reasons) > 1 else ""
        raise InputError(
            f"{name}: {output} was made with others than it holds: {reasons[0]}{more}; check it "
            "out, run the pipeline and commit dvc.lock"
        )


def _md5(files: DVCFileSystem, path: str) -> str | None:
    """Return DVC's md5 of a file or folder of code, None if it isn't there."""
    if not files.exists(path):
        return None
    if not files.isdir(path):
        return hashlib.md5(files.read_bytes(path), usedforsecurity=False).hexdigest()
    return dvc_files.md5_of_folder(
        {
            file.removeprefix("/").removeprefix(f"{path}/"): str(_md5(files, file))
            for file in files.find(path)
        }
    )


def _folders(files: DVCFileSystem, name: str, folder: Path) -> list[str]:
    """Return the names of the folders in a folder, sorted; none if it doesn't exist."""
    with _reading(name, folder):
        found = files.ls(str(folder), detail=True) if files.exists(str(folder)) else []
    return sorted(Path(each["name"]).name for each in found if each["type"] == "directory")


def _read(
    files: DVCFileSystem,
    name: str,
    path: Path,
    parse: Callable[[bytes], Any] = lambda content: content,
) -> Any:
    """Return what a file of a revision holds."""
    with _reading(name, path):
        return parse(files.read_bytes(str(path)))


def _md5_of_output(files: DVCFileSystem, name: str, path: Path) -> str:
    """Return the md5 that dvc.lock records of a folder."""
    with _reading(name, path):
        md5: str = files.info(str(path))["md5"]
    return md5


@contextmanager
def _reading(name: str, path: Path) -> Iterator[None]:
    """Name revision and file in whatever goes wrong while DVC or a parser reads it."""
    try:
        yield
    except (FileNotFoundError, DataIndexDirError):
        raise InputError(
            f"{name}: {path} is neither in DVC's cache nor in its remote; get it there with "
            f"dvc fetch, or check {name} out and run the pipeline"
        ) from None
    except (DvcException, YAMLError, csv.Error, OSError, ValueError, LookupError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{name}: {path}: can't be read ({reason})") from None


def _load_array(content: bytes) -> np.ndarray:
    return np.load(io.BytesIO(content), allow_pickle=False)
