"""What pages say beside their blocks: links, commands in sentences, folders, numbers."""

from __future__ import annotations

import ast
import contextlib
import io
import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from dvc.cli import parse_args
from snakemake.cli import get_argument_parser
from typer.main import get_command

from benchmarks.rows import ROWS
from docs.results import ranks
from pipeline.cli import app
from tests.docs.pages import PAGES, ROOT, blocks, inline_code, prose, read

MOST_LINES = 250
PROGRAMS = ("make", "snakemake", "dvc", "python", "pytest", "bash")
RUNNABLE = ("sh", "python", "yaml", "diff", "json", "text", "mermaid", "")


# --- README ---------------------------------------------------------------------------------------


def test_readme_is_a_landing_page() -> None:
    assert len(read("README.md").splitlines()) <= MOST_LINES


def test_table_of_folders_is_what_the_folders_say() -> None:
    folders = [path.parent for path in sorted((ROOT / "pipeline").glob("*/__init__.py"))]
    told = {folder.name: first_line(folder / "__init__.py") for folder in folders}
    rows = dict(re.findall(r"^\| `(\w+)/` \| (.+) \|$", read("README.md"), flags=re.MULTILINE))
    expected = "\n".join(f"| `{name}/` | {line} |" for name, line in told.items())
    assert rows == told, f"the rows of README's last table, in its order:\n{expected}"


def first_line(module: Path) -> str:
    docstring = ast.get_docstring(ast.parse(module.read_text(encoding="utf-8")))
    assert docstring, module
    return docstring.splitlines()[0].removesuffix(".")


@pytest.mark.parametrize(
    ("page", "result"),
    [
        ("README.md", "attention_table"),
        ("docs/results/attention_table/README.md", "attention_table"),
        ("docs/results/placement/README.md", "placement"),
        ("docs/results/densenets/README.md", "densenets"),
        ("docs/results/tutorial/README.md", "tutorial"),
    ],
)
def test_table_with_ranks_is_what_the_predictions_give(page: str, result: str) -> None:
    assert ranks.table(ROOT / "docs" / "results" / result) in read(page)


def test_citation_has_the_version_and_the_licence_of_the_package() -> None:
    project = tomllib.loads(read("pyproject.toml"))["project"]
    citation = yaml.safe_load(read("CITATION.cff"))
    assert citation["cff-version"] == "1.2.0"
    assert (citation["version"], citation["license"]) == (project["version"], project["license"])
    assert {"message", "title", "abstract", "authors"} <= citation.keys()


# --- blocks and links -----------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES)
def test_every_block_is_run_or_says_why_not(page: str) -> None:
    for block in blocks(page):
        assert block.language in RUNNABLE, block.place
        for kind, reason in block.marks.items():
            if kind in ("not run", "not compared"):
                assert len(reason.split()) >= 3, f"{block.place}: {kind}: name a reason"
                for path in re.findall(r"tests/[\w/.]+\w", reason):
                    assert (ROOT / path).exists(), f"{block.place}: there is no {path}"


@pytest.mark.parametrize("page", PAGES)
def test_every_link_leads_somewhere(page: str) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)\s]+)\)", prose(page)):
        path, _, anchor = target.partition("#")
        file = (ROOT / page).parent / path if path else ROOT / page
        assert file.exists(), f"{page}: there is no {target}"
        if anchor:
            assert anchor in anchors(file), f"{page}: {target}: there is no such heading"


def anchors(page: Path) -> set[str]:
    """The addresses that GitHub gives to the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in headings}


# --- commands that are named in sentences, and in blocks that can't run here ----------------------


@pytest.mark.parametrize("page", PAGES)
def test_every_command_is_one_that_its_program_takes(page: str) -> None:
    for command in commands(page):
        check(command)


@pytest.mark.parametrize(
    "command",
    [
        "make tset",
        "snakemake --core 4 --dry",
        "dvc exp rnu",
        "dvc metrics diff --sort-by accuracy",
        "python -m pipeline trian",
        "python -m pipeline train --model cnn --sed 0",
        "python -m benchmarks default_runs",
        "bash benchmarks/no_stages.sh",
    ],
)
def test_commands_that_do_not_exist_are_found(command: str) -> None:
    with pytest.raises((pytest.fail.Exception, AssertionError)):
        check(command)


def commands(page: str) -> Iterator[str]:
    """Yield the commands in a page's sentences, tables and blocks that can't run here."""
    left_out = [block.text for block in blocks(page) if "not run" in block.marks]
    lines = [line for text in left_out for line in text.replace("\\\n", "").splitlines()]
    for line in [*lines, *inline_code(page)]:
        for command in re.split(r"; | && |\|", line.partition(" #")[0]):
            words = command.split()
            if words and words[0] == "sudo":
                words = words[1:]
            if len(words) > 1 and words[0] in PROGRAMS and "..." not in words:
                yield " ".join(words)


def check(command: str) -> None:
    """Fail unless the program that a command names would take it."""
    program, *arguments = shlex.split(command)
    match program, arguments:
        case "make", _:
            targets = re.findall(r"^([a-z-]+):", read("Makefile"), flags=re.MULTILINE)
            asked = {word for word in arguments if not re.match(r"-|[A-Z]+=", word)}
            assert asked <= set(targets), command
        case "snakemake", _:
            with rejecting(command):
                get_argument_parser().parse_args(arguments)
        case "dvc", _:
            with rejecting(command):
                parse_args([word for word in arguments if word != "STAGE"])
        case "python", ["-m", "pipeline", *rest]:
            with rejecting(command):
                check_pipeline([word for word in rest if word != "STAGE"])
        case "python", ["-m", "benchmarks", *rest]:
            assert not rest or rest[0].startswith("-") or rest[0] in ROWS, command
        case ("python", ["-m", "pytest", *rest]) | ("pytest", rest):
            assert all((ROOT / path).exists() for path in rest if path.startswith("tests/"))
        case "bash", [path]:
            assert (ROOT / path).exists(), command


def check_pipeline(arguments: list[str]) -> None:
    """Parse a command line of the pipeline without running it."""
    group = get_command(app)
    if not arguments or arguments == ["--help"]:
        return
    name, *rest = arguments
    if name == "stage":
        return
    found = group.commands[name]  # type: ignore[attr-defined]
    if "--help" not in rest:
        found.make_context(name, rest, resilient_parsing=not rest)


@contextlib.contextmanager
def rejecting(command: str) -> Iterator[None]:
    """Turn what a parser says of a command into a failure."""
    told = io.StringIO()
    try:
        with contextlib.redirect_stderr(told), contextlib.redirect_stdout(told):
            yield
    except SystemExit as end:
        if end.code:
            pytest.fail(f"{command}: {told.getvalue()}")
    except Exception as error:  # each program has its own
        pytest.fail(f"{command}: {error} {told.getvalue()}")
