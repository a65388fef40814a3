"""What dvc.lock records of a stage, compared with what the stage's output says it was made from.

DVC notes the settings and the checksums of code that it finds after a stage's command, or when it
is told to (``dvc commit``). The two differ if something was edited in between, or if the output was
committed under settings, or with code or inputs, that did not make it.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from itertools import product
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from ruamel.yaml import YAML, YAMLError

from pipeline.engines import dvc_files
from pipeline.engines.dvc_files import SECONDS_BETWEEN_READS, SECONDS_TO_WRITE
from pipeline.engines.dvc_graph import read_stages
from pipeline.engines.unchanged import checksum_of_code
from pipeline.paths import PARAMS, SPLITS
from pipeline.settings.load import check
from pipeline.settings.recorded import differences, value_of
from pipeline.settings.schema import Settings
from pipeline.settings.yaml_file import read
from pipeline.storage.checksums import checksum
from pipeline.storage.fingerprint import DESCRIPTION, INDEX, fingerprint
from pipeline.system.errors import InputError
from pipeline.system.progress import say

LOCK = Path("dvc.lock")

# by stage the file among its outputs that says what they were made from
SAYING = {
    "download": "raw.json",
    "split": "splits.json",
    "train": "model.safetensors",
    "evaluate": "metrics.json",
    "measure": "timings.json",
    "explain": "explain.json",
    "report": "verdict.json",
}


class LockedStage(BaseModel):
    """What is read here of a stage in dvc.lock."""

    deps: list[dict[str, Any]] = []
    outs: list[dict[str, Any]] = []
    params: dict[str, dict[str, Any]] = {}


class Lock(BaseModel):
    """dvc.lock."""

    stages: dict[str, LockedStage] = {}


def find(stages: Mapping[str, Any], params_path: Path = PARAMS) -> dict[str, str]:
    """Return by stage what made its output and isn't what is recorded.

    Nothing is said of settings that are other ones by now: DVC finds those changed itself. Nor of
    runs that params.yaml doesn't list.

    Args:
        stages: those of dvc.lock, as `read_lock` returns them, or some of them.
        params_path: the settings file.
    """
    try:
        content = read(params_path)
        settings = check(content, params_path.name)
    except InputError:
        return {}

    outs = {out["path"]: out["md5"] for locked in stages.values() for out in _list(locked, "outs")}
    splits = _splits()
    runs = (f"{model}-{seed}" for model, seed in product(settings.architectures, settings.seeds))
    listed = {"", *settings.architectures, *runs}
    found = {}
    for name, locked in stages.items():
        kind, _, run = name.partition("@")
        if run not in listed:  # nobody reads it, and no command makes it again
            continue
        params = locked.get("params", {}).get(PARAMS.name, {})
        deps = {dep["path"]: dep["md5"] for dep in _list(locked, "deps")}
        for path, said in _said(name, locked):
            made_from = said["made_from"]
            reasons = [
                *_other_settings(made_from["settings"], params, content, settings),
                *_other_seed(path, said),
                *_other_code(kind, made_from["code"], deps),
                *_other_inputs(said, deps, outs, splits),
                *_other_own_files(said, deps),
                *_other_outputs(path, said, outs),
            ]
            if reasons:
                made = f"{path} was made {', and '.join(reasons)}"
                found[name] = f"{name} is not what dvc.lock records: {made}"
                break
    return found


def cures(found: Mapping[str, str]) -> list[str]:
    """Return each of what `find` found with the command that makes the stage again."""
    return [f"{text}; make it again: dvc repro -f -s {name}" for name, text in found.items()]


def forget_and_refuse(stages: Mapping[str, Any], params_path: Path = PARAMS) -> None:
    """Forget what `find` finds, whose arguments these are, and say how it is made again.

    Raises:
        InputError: if it finds anything.
    """
    if found := find(stages, params_path):
        forget(found)
        raise InputError("; ".join(cures(found)))


def forget(found: Iterable[str]) -> None:
    """Let DVC's run cache forget the stages that `find` found: else it may take them from there.

    A stage that DVC can't load stays: without git, without an input, or if it is no longer listed.
    """
    from dvc.exceptions import DvcException  # DVC takes a second to import

    from pipeline.engines import dvc_state

    with suppress(DvcException):
        repo = dvc_state.open_repo()
        for name in found:
            with suppress(DvcException, OSError):
                dvc_state.forget_runs(repo, [name])


def _other_settings(
    made_under: Mapping[str, Any], recorded: Mapping[str, Any], content: Any, settings: Settings
) -> list[str]:
    """Return the settings that made an output where others are recorded."""
    changed = [f"{key}: not set" for key in recorded if key not in made_under]
    if all(value_of(content, key) == value for key, value in recorded.items()):  # those of now
        changed += differences(made_under, settings)
    return [f"under other settings: {'; '.join(changed)}"] if changed else []


def _other_seed(path: Path, said: Mapping[str, Any]) -> list[str]:
    """Return the seed of weights that lie in the folder of another one."""
    if str(said.get("seed", path.parent.name)) == path.parent.name:
        return []
    return [f"with seed {said['seed']}"]


def _other_code(stage: str, made_by: Mapping[str, str], recorded: Mapping[str, str]) -> list[str]:
    """Return the code that made an output where other code is recorded, with the md5 of both."""
    found = []
    for dep, here in checksum_of_code(stage).items():
        made, noted = made_by.get(dep), recorded.get(dep)
        if noted is None or made == noted:
            continue
        text = f"by another {dep} (md5 {made}, recorded {noted})"
        if made == here:  # DVC goes by size, time and inode
            text += f"; if dvc status doesn't say so: find {dep} -type f -exec touch {{}} +"
        found.append(text)
    # DVC takes no stage for changed of which somebody has taken code out of the deps
    found += [f"by {dep} too, of which nothing is recorded" for dep in made_by.keys() - recorded]
    return sorted(found)


def _other_inputs(
    said: Mapping[str, Any],
    deps: Mapping[str, str],
    outs: Mapping[str, str],
    splits: str | None,
) -> list[str]:
    """Return the inputs that made an output where what lies here is recorded."""
    inputs = [
        path
        for path, sha256 in said["made_from"]["inputs"].items()
        if _sha256(Path(path)) not in (None, sha256)
    ]
    if said.get("splits", splits) != splits:
        inputs.append(str(SPLITS))
    # it is for DVC to say that an input has changed since; large ones are read last
    return [
        f"from another {path} than the one here"
        for path in inputs
        for dep, noted in deps.items()
        if Path(path).is_relative_to(dep)
        if outs.get(dep, noted) == noted == _md5(Path(dep))
    ]


def _other_own_files(said: Mapping[str, Any], deps: Mapping[str, str]) -> list[str]:
    """Return the folder of a person's own images that had another md5 while they were read."""
    return [
        f"from other files in {folder} than those recorded"
        for folder, md5 in said.get("own_files", {}).items()
        if deps.get(folder, md5) != md5
    ]


def _other_outputs(path: Path, said: Mapping[str, Any], outs: Mapping[str, str]) -> list[str]:
    """Return what was written beside the file at `path` where another md5 of it is recorded."""
    beside = {(path.parent / name).as_posix(): md5 for name, md5 in said.get("outputs", {}).items()}
    return [f"with another {other}" for other, md5 in beside.items() if outs.get(other, md5) != md5]


def read_lock(*names: str) -> dict[str, Any]:
    """Return what dvc.lock records of these stages, or of all; nothing if there is none.

    Raises:
        InputError: if it is corrupt, and still is after a minute.
    """
    given_up, waits = time.monotonic() + SECONDS_TO_WRITE, False
    while True:
        try:
            text = LOCK.read_text(encoding="utf-8")
            if names:  # parsing it all takes 0.2 s for 60 stages, after each of their jobs
                head, *stages = re.split(r"^  (?=\S)", text, flags=re.MULTILINE)
                wanted = [one for one in stages if one.startswith(tuple(f"{n}:" for n in names))]
                if not wanted:
                    return {}
                text = "  ".join([head, *wanted])
            content = YAML(typ="safe").load(text)
            Lock.model_validate(content)
            return content.get("stages", {})
        except FileNotFoundError:
            return {}
        except (YAMLError, ValueError) as error:
            if not waits:
                say(f"waits up to a minute for {LOCK}, which can't be read: is it being written?")
                waits = True
            if time.monotonic() > given_up:
                why = " ".join(" ".join(str(error).splitlines()[:2]).split())  # the second: where
                raise InputError(f"{LOCK}: can't be read ({why}); snakemake repairs it") from None
        time.sleep(SECONDS_BETWEEN_READS)


def _said(name: str, locked: Mapping[str, Any]) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Yield each file in which an output of a stage says what it was made from, and what it says.

    One that is missing or can't be read is passed over: who reads the output says so.
    """
    kind = name.partition("@")[0]
    if kind not in SAYING or kind not in read_stages():
        return
    for out in (Path(out["path"]) for out in _list(locked, "outs")):
        for path in [out] if out.name == SAYING[kind] else sorted(out.rglob(SAYING[kind])):
            try:
                said = _header(path) if path.suffix == ".safetensors" else _json(path)
                _ = [said["made_from"][part] for part in ("settings", "code", "inputs")]
            except (OSError, ValueError, LookupError, TypeError):
                continue
            yield path, said


def _list(locked: Mapping[str, Any], what: str) -> list[dict[str, Any]]:
    """Return the entries of `deps` or `outs` that have a checksum."""
    return [entry for entry in locked.get(what, []) if "md5" in entry]


def _header(path: Path) -> dict[str, Any]:
    """Return the provenance in a file of safetensors, without its tensors and their library."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > path.stat().st_size:
            raise ValueError(f"{path}: is corrupt")
        header = json.loads(file.read(length))
    provenance: dict[str, Any] = json.loads(header["__metadata__"]["provenance"])
    return provenance


def _json(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


def _splits() -> str | None:
    try:
        return fingerprint((SPLITS / INDEX).read_bytes(), (SPLITS / DESCRIPTION).read_bytes())
    except OSError:
        return None


def _md5(path: Path) -> str | None:
    try:
        return dvc_files.md5(path)
    except FileNotFoundError:  # a run makes it again
        return None


def _sha256(path: Path) -> str | None:
    try:
        return checksum(path)
    except OSError:
        return None
