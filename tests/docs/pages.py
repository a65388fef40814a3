"""The pages of the documentation, and the code blocks in them."""

from __future__ import annotations

import re
import textwrap
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = (
    "README.md",
    "CONTRIBUTING.md",
    *sorted(str(path.relative_to(ROOT)) for path in (ROOT / "docs").glob("*.md")),
    *sorted(str(path.relative_to(ROOT)) for path in (ROOT / "docs").glob("results/*/README.md")),
)

FENCE = re.compile(r"^(?P<indent> *)```(?P<language>\w*)$")
MARK = re.compile(r"^ *<!-- (?P<kind>not run|not compared|exact|file|excerpt): (?P<value>.+) -->$")


@dataclass(frozen=True)
class Block:
    """A fenced block of a page.

    Attributes:
        page: the page's path from the project's root.
        line: where its text begins, from 1.
        section: the number of the `##` headings above it.
        language: after the opening fence; empty if there is none.
        text: between the fences.
        marks: of the HTML comment on the line before it: kind to value.
    """

    page: str
    line: int
    section: int
    language: str
    text: str
    marks: dict[str, str]

    @property
    def place(self) -> str:
        """Where it stands, as an editor takes it."""
        return f"{self.page}:{self.line}"


def read(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def blocks(page: str) -> list[Block]:
    """Return the fenced blocks of a page, in order."""
    found = []
    section, marks = 0, {}
    lines = iter(enumerate(read(page).splitlines(), start=1))
    for number, line in lines:
        if opening := FENCE.match(line):
            inside = []
            for _, text in lines:
                if text.strip() == "```":
                    break
                inside.append(text)
            else:
                raise AssertionError(f"{page}:{number}: this block has no end")
            text = textwrap.dedent("\n".join(inside)) if opening["indent"] else "\n".join(inside)
            found.append(Block(page, number + 1, section, opening["language"], text + "\n", marks))
            marks = {}
        elif mark := MARK.match(line):
            marks = {mark["kind"]: mark["value"]}
        else:
            section += line.startswith("## ")
            marks = {}
    return found


def prose(page: str) -> str:
    """Return a page without its blocks and comments."""
    text = re.sub(r"^ *```.*?^ *```$", "", read(page), flags=re.DOTALL | re.MULTILINE)
    return re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL)


def inline_code(page: str) -> list[str]:
    """Return what stands between single backticks in the sentences and tables of a page."""
    return re.findall(r"`([^`\n]+)`", prose(page))
