"""That a stage's settings, code and inputs are at its end what they were at its start.

DVC notes the settings and checksums that it finds when the command of a stage has ended. Whatever
changed while it ran would be recorded as what made the outputs: so the command fails instead.
"""

from __future__ import annotations

import ast
import functools
import os
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.engines import dvc_files
from pipeline.engines.dvc_graph import ROOT, code_of_stage, settings_of_stage
from pipeline.settings.load import load
from pipeline.settings.recorded import differences, select
from pipeline.settings.schema import Settings
from pipeline.storage.checksums import checksum
from pipeline.system.errors import InputError, StageError

if TYPE_CHECKING:
    from pipeline.storage.records import MadeFrom

NOUNS = {"split": "division", "train": "training", "evaluate": "evaluation"}
NOUNS |= {"measure": "measurement", "explain": "explanation"}
# of `pipeline`: what decides whether and how a stage runs, not what comes out
DECIDES_NOTHING = (
    *("engines", "settings", "storage", "system", "paths.py", "__init__.py", "data/own_files.py"),
    *("data/sources/fetching.py", "stages/stale_outputs.py"),
)
FOLDERS = ("pipeline", "tests", "benchmarks", "docs")  # that have modules
MOST_NAMED = 3
SECONDS_TO_SAVE = 2.0  # in which a file that an editor is writing is empty, or ends somewhere
SECONDS_BETWEEN_READS = 0.1

State = tuple[int, int, int, int]  # the same for a file that nobody wrote to


class Unchanged:
    """What a stage was given. It can be pickled, for several processes.

    Args:
        stage: a key of `stages` in dvc.yaml.
        params: the settings file.
        settings: what was read from it.
        inputs: files and folders that other stages wrote and this one reads.
        model: the architecture, for the stages that have one.
    """

    def __init__(
        self,
        stage: str,
        params: Path,
        settings: Settings,
        inputs: Sequence[Path] = (),
        model: str | None = None,
    ) -> None:
        self._stage, self._noun = stage, NOUNS.get(stage, stage)
        # modules of the project's own folders: another file may stand in the place of a library's,
        # and an `__init__.py` that has code is nothing that belongs there
        self._own_code_before = {
            path
            for path in _own_code()
            if path.relative_to(ROOT).parts[0] in FOLDERS
            and not (path.name == "__init__.py" and path.is_relative_to(ROOT / "pipeline"))
        }
        self._params = params
        self._recorded = select(settings, _keys(stage, model))
        self._code = code_of_stage(stage)
        _refuse_folders_in_place(self._code)
        checksum_of_code(stage)  # of what runs: it may be another one when the outputs are written
        self._inputs = inputs
        self._code_states = _states(self._code)
        self._input_states = _states(inputs)

    def check(self) -> None:
        """Raise a StageError that names what has changed, or what code DVC doesn't know of."""
        unknown = sorted(_own_code().difference(self._own_code_before))
        unknown = [path for path in unknown if not any(map(path.is_relative_to, self._code))]
        if unknown:
            raise StageError(
                f"this {self._noun} ran {os.path.relpath(unknown[0])}, of which DVC doesn't know: "
                f"add it to the deps of {self._stage} in dvc.yaml, and run again"
            )
        changed = [*self._changed_settings(), *self._changed_files()]
        if changed:
            more = len(changed) - MOST_NAMED
            named = ", ".join(changed[:MOST_NAMED]) + (f" and {more} more" if more > 0 else "")
            raise StageError(f"changed during this {self._noun}: {named}; run again")

    def _changed_settings(self) -> list[str]:
        given_up = time.monotonic() + SECONDS_TO_SAVE
        while True:
            try:
                found = differences(self._recorded, load(self._params))
                return [f"{self._params.name}: {difference}" for difference in found]
            except InputError as error:
                if time.monotonic() > given_up:
                    return [str(error)]
            time.sleep(SECONDS_BETWEEN_READS)

    def _changed_files(self) -> Iterator[str]:
        # what was changed and changed back may have been imported in between
        code = _differing(self._code_states, _states(self._code))
        yield from (path.relative_to(ROOT).as_posix() for path in code)
        yield from map(str, _differing(self._input_states, _states(self._inputs)))


@contextmanager
def unchanged(
    stage: str,
    params: Path,
    settings: Settings,
    inputs: Sequence[Path] = (),
    model: str | None = None,
) -> Iterator[Unchanged]:
    """Raise a StageError after the block if anything that the stage was given has changed.

    The arguments are those of `Unchanged`. To be entered before the stage's code is imported.

    Raises:
        InputError: if the code of another project is to run.
    """
    here = Path("pipeline/__init__.py")
    if here.exists() and not here.samefile(ROOT / here):
        raise InputError(
            f"this project's code is not what runs, but that of {ROOT}; unset PYTHONPATH and "
            "PYTHONSAFEPATH"
        )
    given = Unchanged(stage, params, settings, inputs, model)
    yield given
    given.check()


def made_from(
    stage: str, settings: Settings, model: str | None = None, inputs: Iterable[Path] = ()
) -> MadeFrom:
    """Return what a stage writes down with its output, for `engines.false_records` to compare.

    Args:
        stage: a key of `stages` in dvc.yaml.
        settings: what was read from params.yaml.
        model: the architecture, for the stages that have one.
        inputs: small files of other stages, of which nothing else in the output says which it was.
    """
    from pipeline.storage.records import MadeFrom  # takes NumPy, which `--help` can do without

    return MadeFrom(
        settings=select(settings, _keys(stage, model)),
        code=checksum_of_code(stage),
        inputs={str(path): checksum(path) for path in inputs},
    )


def write_origin(
    folder: Path, made_from: MadeFrom, own_files: Mapping[str, str] | None = None
) -> None:
    """Write what a folder was made from beside it, such as ``data/raw.json``.

    `own_files` is DVC's md5 of a person's own images, by their path.
    """
    from pipeline.storage import records

    written = outputs(folder.parent, [folder.name])
    own = dict(own_files or {})
    record = records.Origin(made_from=made_from, outputs=written, own_files=own)
    records.write(folder.parent / f"{folder.name}.json", record)


def outputs(folder: Path, names: Iterable[str]) -> dict[str, str]:
    """Return DVC's md5 of what a stage wrote into `folder`, for a file that says what made it.

    With it that file speaks for the others too: when git merges two branches, dvc.lock may get one
    output of a stage from here and another one from there.
    """
    return {name: dvc_files.md5(folder / name) for name in names}


@functools.cache
def checksum_of_code(stage: str) -> dict[str, str]:
    """Return the md5 of each file and folder of code that a stage depends on, as dvc.lock has it.

    It is that of what was found first.
    """
    return {path.relative_to(ROOT).as_posix(): dvc_files.md5(path) for path in code_of_stage(stage)}


def _keys(stage: str, model: str | None) -> list[str]:
    return settings_of_stage(stage, model) or list(Settings.model_fields)


def _own_code() -> set[Path]:
    """Return the modules that this process has imported from the project and that may decide."""
    # by their dictionaries: a module may import others when it is asked for what it doesn't have;
    # by their text: as paths thousands of them take 0.2 s, after each epoch
    files = (getattr(module, "__dict__", {}).get("__file__") for module in [*sys.modules.values()])
    here, prefixes = f"{ROOT}{os.sep}", (sys.prefix, os.path.realpath(sys.prefix))
    # a Python that is installed above the project, such as in /usr, has nothing to do with it
    installed = tuple(f"{prefix}{os.sep}" for prefix in prefixes if prefix.startswith(here))
    own = (file for file in files if file and file.startswith(here))
    package = ROOT / "pipeline"
    others = [package / part for part in DECIDES_NOTHING]
    return {
        path
        for path in (Path(file) for file in own if not file.startswith(installed))
        if not any(map(path.is_relative_to, others))
        if path.name != "__init__.py" or not path.is_relative_to(package) or _has_code(path)
    }


def _refuse_folders_in_place(code: Sequence[Path]) -> None:
    """Refuse a package beside the module of the same name: Python would run it in its place."""
    for path in code:
        package = path.with_suffix("")
        if path.suffix == ".py" and (package / "__init__.py").exists():
            raise InputError(
                f"{package.relative_to(ROOT)}: Python runs this folder in place of {path.name} "
                "beside it, of which DVC takes the checksum; rename or remove it"
            )


@functools.cache
def _has_code(init: Path) -> bool:
    """Tell whether an ``__init__.py`` holds more than what its package is for."""
    return any(not isinstance(part, ast.Expr) for part in ast.parse(init.read_bytes()).body)


def _states(paths: Sequence[Path]) -> dict[Path, State]:
    """Return size, times and inode of each file. The time of a change of the inode can't be set."""
    found = {}
    for path in dvc_files.files(paths):
        if path.is_file():
            status = path.stat()
            found[path] = (status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)
    return found


def _differing(before: dict[Path, State], now: dict[Path, State]) -> list[Path]:
    paths = dict.fromkeys([*before, *now])
    return [path for path in paths if before.get(path) != now.get(path)]
