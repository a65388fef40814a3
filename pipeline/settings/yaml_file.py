"""Reading a YAML 1.2 file of settings; what is wrong with it is one line."""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from textwrap import shorten
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.constructor import ConstructorError, SafeConstructor
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import Node

from pipeline.system.errors import InputError, shown
from pipeline.system.text import printable

LONGEST_PROBLEM = 200  # characters
OTHER_VERSION = re.compile(r"^%YAML(?!\s+1\.2\s*$).*", re.MULTILINE)


class _Constructor(SafeConstructor):
    """Names the line of a value whose text isn't what it looks like, such as 2001-99-99."""

    def construct_object(self, node: Node, deep: bool = False) -> Any:
        try:
            value = super().construct_object(node, deep)
            if isinstance(value, int):
                str(value)  # a message could not quote one of 5,000 hexadecimal digits
            return value
        except (ValueError, OverflowError, LookupError) as error:
            problem = f"{shown(node.value)}: {error}"
            raise ConstructorError(problem=problem, problem_mark=node.start_mark) from None


def read(path: Path) -> dict[str, Any]:
    """Return the plain contents of a settings file, anchors and merge keys resolved.

    Raises:
        InputError: if it is missing, not UTF-8, not YAML, or not a mapping.
    """
    return parse(read_text(path), path.name)


def read_text(path: Path) -> str:
    """Return the text of a settings file.

    Raises:
        InputError: if it is missing or not UTF-8.
    """
    try:
        return path.read_bytes().decode("utf-8")
    except FileNotFoundError:
        raise InputError(
            f"{path}: no such file; run from the project's folder, or name one with --params"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: can't be read: {error}") from None


def parse(text: str, name: str) -> dict[str, Any]:
    """Return the plain contents of a settings file's text; `name` is the file's, for messages.

    Raises:
        InputError: if it is not YAML, or not a mapping.
    """
    reader = YAML(typ="safe", pure=True)
    reader.Constructor = _Constructor
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of an anchor that is used again, as YAML allows
            if (directive := OTHER_VERSION.search(text)) is not None:
                raise InputError(
                    f"{name}: '{printable(directive[0])}': DVC reads YAML 1.2 whatever stands "
                    "there, so that the two would differ; remove the line"
                )
            content = reader.load(text)
    except MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else "?"
        problem = shorten(str(error.problem), LONGEST_PROBLEM)
        raise InputError(f"{name}: line {line}: not valid YAML: {problem}") from None
    except YAMLError as error:
        first_line = str(error).strip().splitlines()[0]
        raise InputError(f"{name}: not valid YAML: {first_line}") from None
    except RecursionError:
        raise InputError(f"{name}: not valid YAML here: it is nested too deeply") from None
    if not isinstance(content, dict):
        kind = {type(None): "nothing", list: "a list"}.get(type(content), "a single value")
        raise InputError(f"{name}: expected a mapping of settings, found {kind}")
    return content
