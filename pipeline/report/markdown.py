"""Pieces of GitHub Markdown, with whatever a class may be called made harmless."""

from __future__ import annotations

import html
import re
from urllib.parse import quote

# One with a unit, a deviation or an interval; or a dash or nothing where there is none.
NUMBER = re.compile(r"\**([+\-<]? ?\d[\d,.]*( [%A-Za-z]{1,3})?( [±(].*)?|-|)\**")
SPECIAL = re.compile(r"([\\`*_\[\]|~$])")
# A terminal obeys control characters; the others turn the direction of what follows a name.
UNSEEN = re.compile("[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def escape(text: str) -> str:
    """Return `text` so that Markdown shows it as it is, in a paragraph or a table cell."""
    one_line = UNSEEN.sub("\N{REPLACEMENT CHARACTER}", " ".join(str(text).split()))
    harmless = html.escape(one_line, quote=False)
    return SPECIAL.sub(r"\\\1", harmless)


def table(block: str) -> str:
    """Return a table: columns of numbers to the right, the first and those of words to the left.

    `block` is lines of cells such as ``| a | b |``, the headings first; a ``|`` in one is escaped.
    """
    headings, *rows = [line.strip() for line in block.splitlines() if line.strip()]
    columns = zip(*(row[2:-2].split(" | ") for row in rows), strict=True)
    rules = [
        "--:" if position and all(map(NUMBER.fullmatch, column)) else ":--"
        for position, column in enumerate(columns)
    ]
    return "".join(f"{line}\n" for line in [headings, f"| {' | '.join(rules)} |", *rows])


def image(description: str, path: str, numbers: str = "") -> str:
    """Return an image with a relative link; `numbers`, what it shows, for who doesn't see it."""
    if not numbers:
        return f"![{escape(description)}]({quote(path)})"
    title = escape(description).replace('"', "&quot;")
    return f'![{escape(description)}: {escape(numbers)}]({quote(path)} "{title}")'


def folded(content: str, summary: str) -> str:
    """Return `content`, Markdown, behind a line of plain text that opens it."""
    shown = html.escape(" ".join(summary.split()))
    return f"<details>\n<summary>{shown}</summary>\n\n{content.strip()}\n\n</details>\n"


def fenced(text: str, language: str) -> str:
    """Return `text` as a code block, whatever it holds."""
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text.rstrip()}\n{fence}\n"
