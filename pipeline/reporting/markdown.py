"""Pieces of GitHub Markdown, with whatever a class may be called made harmless."""

from __future__ import annotations

import re
from collections.abc import Sequence
from urllib.parse import quote

SPECIAL = re.compile(r"([\\`*_\[\]|~$])")


def escape(text: str) -> str:
    """Return `text` so that Markdown shows it as it is, in a paragraph or a table cell."""
    one_line = " ".join(str(text).split())
    html = one_line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return SPECIAL.sub(r"\\\1", html)


def table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table: the first column to the left, the others to the right.

    Args:
        headings: Markdown, one for each column.
        rows: Markdown, each as long as `headings`.
    """
    rules = [":--"] + ["--:"] * (len(headings) - 1)
    return "\n".join("| " + " | ".join(cells) + " |" for cells in [headings, rules, *rows])


def image(description: str, path: str) -> str:
    """Return an image with a relative link."""
    return f"![{escape(description)}]({quote(path)})"


def fenced(text: str, language: str) -> str:
    """Return `text` as a code block, whatever it holds."""
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text.rstrip()}\n{fence}"
