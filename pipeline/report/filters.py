"""The templates' filters: numbers as a person would write them, and pieces of Markdown."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from pipeline.figures import fonts
from pipeline.report import markdown
from pipeline.system import formats, text

TEMPLATES = Path(__file__).parent / "templates"


def fixed(value: float, digits: int) -> str:
    """Return `value` with so many decimals."""
    return f"{value:.{digits}f}"


def significant(value: float, digits: int = 6) -> str:
    """Return `value` with at most so many significant digits, without zeros at the end."""
    return f"{value:.{digits}g}"


def thousands(value: float, digits: int = 0) -> str:
    """Return such as ``1,797``, with so many decimals."""
    return f"{value:,.{digits}f}"


def codes(names: Iterable[str]) -> list[str]:
    """Return names of architectures or settings as Markdown."""
    return [f"`{name}`" for name in names]


def setting_value(value: Any) -> str:
    """Return a setting as params.yaml has it."""
    if isinstance(value, bool):
        return str(value).lower()
    return "null" if value is None else str(value)


def cost_name(name: str) -> str:
    """Return an attribute of a Summary in words, such as ``latency``."""
    names = {"macs": "MACs", "latency_ms": "latency", "training_seconds": "training time"}
    names |= {f"{kind}_memory": f"memory in {kind}" for kind in ("inference", "training")}
    return names.get(name, name)


def one_line(block: str) -> str:
    """Return the text of a block as one line of a file, so that templates may wrap sentences."""
    return " ".join(block.split()) + "\n"


@cache
def environment() -> Environment:
    """Return the environment of the templates; those of HTML escape what they are given.

    What a macro of another template returns counts as escaped there: pass it through `forceescape`.
    """
    made = Environment(
        loader=FileSystemLoader(TEMPLATES),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=lambda name: name is not None and name.endswith(".html.j2"),
    )
    functions: list[Callable[..., Any]] = [
        *(formats.percent, formats.points, formats.spread, formats.p_value, formats.change),
        *(formats.interval_name, formats.relative, formats.large, formats.latency),
        *(formats.duration, text.plural, fixed, significant, thousands, codes, one_line),
        *(cost_name, setting_value, fonts.drawn_names, fonts.fonts_wanted),
        *(markdown.table, markdown.fenced, markdown.folded),
    ]
    made.filters |= {function.__name__: function for function in functions}
    made.filters["enumerated"] = lambda names: formats.listed([*names])
    made.filters["md_escape"] = markdown.escape
    made.tests["known"] = lambda value: not math.isnan(value)
    made.globals["image"] = markdown.image
    return made
