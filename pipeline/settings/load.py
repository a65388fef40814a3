"""Reading and checking params.yaml.

`load` turns the file into a frozen `Settings` or raises an `InputError` that names the key, its
value, what would be right and the file to change. Nothing heavy is imported here, since both
engines and every command check the settings before they do anything else.
"""

from __future__ import annotations

import re
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from pipeline.settings import rules
from pipeline.settings.schema import FAMILIES, LOSSES, Settings
from pipeline.settings.yaml_file import read
from pipeline.system.errors import SHORTENED, InputError, not_one_of, shown, suggestion

MOST_LISTED = 20  # mistakes in one message


def load(path: Path) -> Settings:
    """Read and check a settings file.

    Args:
        path: the file, usually ``params.yaml``.

    Raises:
        InputError: if it can't be read, is no YAML, or a setting in it is wrong. Of several
            mistakes each is named, on one line.
    """
    return check(read(path), path.name)


def check(content: dict[str, Any], where: str = "params.yaml") -> Settings:
    """Return the settings in `content`, or raise an `InputError` that begins with `where`."""
    try:
        settings = Settings.model_validate(content)
        mistakes = rules.conflicts(settings)
    except ValidationError as error:
        mistakes = [_explain(detail) for detail in error.errors()]
    if mistakes:
        lines = [f"{where}: {mistake}" for mistake in mistakes[:MOST_LISTED]]
        more = len(mistakes) - MOST_LISTED
        raise InputError("; ".join([*lines, f"and {more} more"] if more > 0 else lines))
    return settings


def check_loss(settings: Settings) -> None:
    """Check that a loss of one's own is in a module that exists; nothing of it is run.

    Raises:
        InputError: if there is no such module.
    """
    loss = settings.train.loss
    if loss in LOSSES:
        return
    module, _, _ = loss.rpartition(".")
    if _spec(module) is None:
        raise InputError(
            f"params.yaml: train.loss: '{loss}': there is no module {module}; a folder "
            "needs an __init__.py"
        )


def _spec(module: str) -> ModuleSpec | None:
    """Return where a module is, or None; unlike `find_spec` it imports no package on the way."""
    package, _, _ = module.rpartition(".")
    try:
        if not package:
            return find_spec(module)
        parent = _spec(package)
        if parent is None or parent.origin is None or parent.submodule_search_locations is None:
            return None  # a folder without __init__.py has no origin
        return PathFinder.find_spec(module, parent.submodule_search_locations)
    except (ImportError, ValueError, OSError):  # as for a module without a spec, a name too long
        return None


def _explain(detail: ErrorDetails) -> str:
    """Say one of pydantic's findings as ``key: value, what would be right``."""
    path = list(detail["loc"])
    family = None
    if path[:1] == ["architectures"] and len(path) > 2:
        family = str(path.pop(2))  # the tag of the union, which is no key of the file
    if path[:2] == ["data", "normalisation"]:
        del path[2:3]  # likewise: a name or a mapping
    where = ".".join(_key(part) for part in path)
    value = detail["input"]
    context = detail.get("ctx", {})
    match detail["type"]:
        case "extra_forbidden":
            return f"{where}: no such setting{_hint(path, family)}"
        case "missing":
            return f"{where}: is missing"
        case "model_type" | "dict_type" | "model_attributes_type":
            return f"{where}: {shown(value)}: expected a mapping of settings"
        case "literal_error":
            return not_one_of(where, value, _choices(context["expected"]))
        case "union_tag_invalid":
            return not_one_of(f"{where}.family", context["tag"], _choices(context["expected_tags"]))
        case "union_tag_not_found":
            return f"{where}.family: is missing"
        case "value_error":
            return f"{where}: {context['error']}" if where else str(context["error"])
    expected = detail["msg"][0].lower() + detail["msg"][1:]
    return f"{where}: {shown(value)}: {expected}"


def _key(part: int | str) -> str:
    """Return a part of a setting's path; one that would break the line is quoted."""
    text = str(part)
    return text if text.isprintable() and len(text) <= SHORTENED.maxstring else shown(text)


def _hint(path: list[int | str], family: str | None) -> str:
    """Return what may be meant by the last key of `path`, in an architecture of `family`."""
    key = str(path[-1])
    if family is None:
        section: Any = Settings
        for part in path[:-1]:
            section = section.model_fields[part].annotation
        return suggestion(key, getattr(section, "model_fields", ()))  # a union has none
    others = [name for name, other in FAMILIES.items() if key in other.model_fields]
    if others:
        return f" in family {family}, only in {', '.join(others)}"
    return suggestion(key, FAMILIES[family].model_fields)


def _choices(expected: str) -> list[str]:
    """Return the choices in pydantic's ``'a', 'b' or 'c'``."""
    return [choice.strip(" '") for choice in re.split(r",| or ", expected)]
