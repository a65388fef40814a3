"""Someone who follows a page in a project: runs its commands, makes its changes, compares."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tests.docs.pages import ROOT, Block
from tests.projects import Project, environment

SECONDS = 500  # for a block
NUMBER = re.compile(r"\d[\d.,]*(e-?\d+)?")


@dataclass
class Reader:
    """Follows the blocks of a page from top to bottom; each section begins in the project.

    Attributes:
        project: where they are followed.
        variables: of the environment, besides those of the tests' own.
        stands_for: what a page says and what it is here, such as the address of a server.
        folder: where the reader is.
        section: that the reader is in.
        printed: what the last commands printed.
        ran: how many blocks had an effect or were compared.
    """

    project: Project
    variables: Mapping[str, str] = field(default_factory=dict)
    stands_for: Mapping[str, str] = field(default_factory=dict)
    folder: Path = Path()
    section: int = -1
    printed: str = ""
    ran: int = 0

    def follow(self, block: Block) -> None:
        """Do what a block says; fail where it doesn't hold."""
        if block.section != self.section:
            self.section, self.folder = block.section, self.project.root
        match block.marks, block.language:
            case {"not run": _} | {"not compared": _}, _:
                return
            case {"exact": _}, _:
                assert block.text.strip() in self.printed, f"{block.place}: not {self.printed}"
            case {"file": path}, _:
                (self.project.root / path).write_text(block.text, encoding="utf-8")
            case {"excerpt": path}, _:
                self._find(block, path)
            case _, "sh":
                self._run(block, ["bash", "-e", "-o", "pipefail", "-c", self._script(block.text)])
            case _, "python":
                self._run(block, [sys.executable, "-c", block.text])
            case _, "yaml":
                path = self.project.root / "params.yaml"
                path.write_text(merged(path.read_text(), block.text))
            case _, "mermaid":
                expect_arrows(block)
            case _, "diff":
                change(self.project.root, block)
            case _, "text" | "":
                expect_lines(block, self.printed)
            case _, "json":
                expect_shape(block, json.loads(block.text), json.loads(self.printed))
            case _:
                raise AssertionError(f"{block.place}: nothing is known about ```{block.language}")
        self.ran += 1

    def _script(self, text: str) -> str:
        for said, here in self.stands_for.items():
            text = text.replace(said, here)
        return f"{text}\npwd > '{self.project.root}/.cache/folder'\n"

    def _run(self, block: Block, command: list[str]) -> None:
        (self.project.root / ".cache").mkdir(exist_ok=True)
        running = subprocess.Popen(
            command,
            cwd=self.folder,
            env=environment() | self.variables,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        try:
            self.printed, _ = running.communicate(timeout=SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(running.pid, signal.SIGKILL)
            self.printed, _ = running.communicate()
        code = running.returncode
        assert code == 0, f"{block.place}: exit code {code}\n{block.text}{self.printed}"
        if block.language == "sh":
            self.folder = Path((self.project.root / ".cache" / "folder").read_text().strip())

    def _find(self, block: Block, path: str) -> None:
        there = {uncommented(line) for line in (ROOT / path).read_text().splitlines()}
        missing = {uncommented(line) for line in block.text.splitlines()} - there
        assert not missing, f"{block.place}: not in {path}: {missing}"


def uncommented(line: str) -> str:
    """Return a setting of YAML without indentation and comment, also one that is switched off."""
    return line.strip().removeprefix("# ").partition(" #")[0].strip()


def expect_lines(block: Block, printed: str) -> None:
    """Look for each line in what was printed, in order; numbers may differ, `...` is anything."""
    start = 0
    for line in filter(str.strip, block.text.splitlines()):
        words = re.sub(r"\s+", " ", line.strip())
        parts = []
        for part in words.split("..."):
            parts.append(r"[\d.,e-]+".join(map(re.escape, NUMBER.sub("\0", part).split("\0"))))
        found = re.compile(".*".join(parts)).search(re.sub(r"[ \t]+", " ", printed), start)
        assert found, f"{block.place}: not printed: {line!r}\n{printed}"
        start = found.end()


def expect_shape(block: Block, said: Any, printed: Any) -> None:
    """Compare keys and types."""
    assert type(said) is type(printed), f"{block.place}: {said!r} was printed as {printed!r}"
    if isinstance(said, dict):
        assert said.keys() == printed.keys(), block.place
        for key, value in said.items():
            expect_shape(block, value, printed[key])
    elif isinstance(said, list):
        assert len(said) == len(printed), block.place
        for one, other in zip(said, printed, strict=True):
            expect_shape(block, one, other)


def expect_arrows(block: Block) -> None:
    """Compare a drawing with dvc.yaml: all stages, and of each arrow that one reads the other's."""
    arrows = re.findall(r"^ *(\w+) --> (\w+)", block.text, flags=re.MULTILINE)
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    assert {stage for arrow in arrows for stage in arrow} == stages.keys(), block.place
    for writer, reader in arrows:
        (written, *_) = (path.partition("/$")[0] for path in stages[writer]["outs"])
        reads = [path for path in stages[reader]["deps"] if within(path, written)]
        assert reads, f"{block.place}: {reader} reads nothing that {writer} writes"


def within(one: str, other: str) -> bool:
    """Tell whether one of two paths lies in the other."""
    return Path(one).is_relative_to(other) or Path(other).is_relative_to(one)


def merged(settings: str, change: str) -> str:
    """Return params.yaml after a reader has put some lines into it, each in its section.

    Args:
        settings: the text of the file.
        change: what a page shows: a setting that is there is replaced, another one added.
    """
    lines = settings.splitlines()
    for heading, inside in entries(change.splitlines(), 0):
        put(lines, heading, inside, 0, 0, len(lines))
    return "\n".join(lines) + "\n"


def entries(lines: list[str], indent: int) -> list[tuple[str, list[str]]]:
    """Divide lines of YAML into those at an indentation, each with what is below it."""
    found: list[tuple[str, list[str]]] = []
    for line in lines:
        if re.match(rf" {{{indent}}}[^\s#]", line):
            found.append((line, []))
        elif line.strip() and not line.strip().startswith("#"):
            found[-1][1].append(line)
    return found


def put(
    lines: list[str], heading: str, inside: list[str], indent: int, first: int, end: int
) -> None:
    """Put an entry into `lines` between two of them, or what is in it where it is there already."""
    key = heading.strip().partition(":")[0]
    for number in range(first, end):
        if re.match(rf" {{{indent}}}{re.escape(key)}:", lines[number]):
            break
    else:
        lines[end:end] = [heading, *inside]
        return
    stop = number + 1
    while stop < end and (not lines[stop].strip() or lines[stop].startswith(" " * (indent + 1))):
        stop += 1
    while not lines[stop - 1].strip():
        stop -= 1
    if not inside:
        lines[number:stop] = [heading]
    for entry, below in entries(inside, indent + 2):
        before = len(lines)
        put(lines, entry, below, indent + 2, number + 1, stop)
        stop += len(lines) - before


def change(root: Path, block: Block) -> None:
    """Make the change of a diff; what it shows of the file has to be there once."""
    heading, *hunks = re.split(r"^@@\n", block.text, flags=re.MULTILINE)
    path = root / heading.removeprefix("--- ").strip()
    text = path.read_text(encoding="utf-8")
    for hunk in hunks:
        lines = hunk.splitlines(keepends=True)
        before = "".join(line[1:] for line in lines if line[0] in " -")
        after = "".join(line[1:] for line in lines if line[0] in " +")
        assert text.count(before) == 1, f"{block.place}: {before!r} is in {path} not once"
        text = text.replace(before, after)
    path.write_text(text, encoding="utf-8")
