"""The report as one web page: its Markdown, with all that it links to inside.

The page asks nothing of any network and runs no script but its own: a Content-Security-Policy
allows the hashes of its style and script and data URIs of images, and nothing else. Of HTML in the
Markdown only folded parts come through (``markdown.folded``); of links only those to a place in the
page, to a CSV file of the report, and to the web by https.
"""

from __future__ import annotations

import base64
import hashlib
import re
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markdown_it import MarkdownIt
from markdown_it.token import Token
from markupsafe import Markup

from pipeline.figures.style import SETTINGS
from pipeline.report.heading import Badge, Card
from pipeline.system.errors import InputError

TEMPLATE, STYLE, SCRIPT = "page.html.j2", "page.css", "page.js"
DOTS_PER_PIXEL = SETTINGS["savefig.dpi"] / 96  # so that all figures have letters of one size
PNG_END = b"\x00\x00\x00\x00IEND\xaeB`\x82"  # the chunk: no data, its name, their checksum
LARGEST_TABLE = 1_000_000  # bytes of a CSV file that the page holds
FOLD = re.compile(r"<details>\n<summary>[^<>]*</summary>\s*|</details>\s*")
ICON = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32">'
    '<rect width="32" height="32" rx="7" fill="#0b5d8f"/>'
    '<path d="M4 16c5-8 19-8 24 0-5 8-19 8-24 0z" fill="#fff"/>'
    '<circle cx="16" cy="16" r="5" fill="#0b5d8f"/></svg>'
)


@dataclass(frozen=True)
class Heading:
    """A heading that the table of contents leads to."""

    level: int
    anchor: str
    text: str


def page(text: str, folder: Path, badge: Badge | None, cards: Sequence[Card]) -> str:
    """Return the report as an HTML page of one file.

    Args:
        text: the report, Markdown, which begins with its title.
        folder: what the links in it are relative to.
        badge: the verdict; None for a report without one.
        cards: key numbers for the head of the page.

    Raises:
        InputError: if a figure that the report shows is missing or is no whole PNG.
    """
    markdown = _renderer()
    tokens = markdown.parse(text)
    headings = _anchored(tokens)
    _embedded(tokens, folder)
    title, answer, body = _parts(tokens)
    here = Path(__file__).parent / "templates"
    style = (here / STYLE).read_text(encoding="utf-8")
    script = (here / SCRIPT).read_text(encoding="utf-8")
    environment = Environment(
        loader=FileSystemLoader(here),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=True,
    )

    def rendered(part: Sequence[Token]) -> Markup:
        return Markup(markdown.renderer.render(part, markdown.options, {}))

    return environment.get_template(TEMPLATE).render(
        policy=_policy(style, script),
        title=_visible(title),
        heading=rendered(title),
        answer=rendered(answer),
        body=rendered(body),
        headings=[heading for heading in headings if heading.level in (2, 3)],
        badge=badge,
        cards=cards,
        icon=_data_uri(ICON.encode(), "image/svg+xml"),
        style=Markup(style),
        script=Markup(script),
    )


def _policy(style: str, script: str) -> str:
    """Return the Content-Security-Policy: nothing but this style, this script, images inside."""
    return (
        "default-src 'none'; img-src data:; "
        f"style-src '{_hash(style)}'; script-src '{_hash(script)}'; "
        "base-uri 'none'; form-action 'none'"
    )


def _hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _renderer() -> MarkdownIt:
    markdown = MarkdownIt("commonmark", {"html": True}).enable("table")
    rules = {
        "html_block": _html_block,
        "html_inline": _html_inline,
        "image": _image,
        "table_open": _table_open,
        "table_close": _table_close,
        "th_open": _cell_open,
        "td_open": _cell_open,
        "fence": _fence,
    }
    for name, rule in rules.items():
        markdown.add_render_rule(name, rule)
    return markdown


def _html_block(renderer: Any, tokens: Sequence[Token], index: int, *_: Any) -> str:
    content = tokens[index].content
    return content if FOLD.fullmatch(content) else escape(content)


def _html_inline(renderer: Any, tokens: Sequence[Token], index: int, *_: Any) -> str:
    return escape(tokens[index].content)


def _table_open(renderer: Any, tokens: Sequence[Token], index: int, *_: Any) -> str:
    # Focusable, so that whoever has no mouse can scroll it.
    return '<div class="scroll" role="group" aria-label="Table" tabindex="0">\n<table>\n'


def _table_close(renderer: Any, tokens: Sequence[Token], index: int, *_: Any) -> str:
    return "</table>\n</div>\n"


def _cell_open(renderer: Any, tokens: Sequence[Token], index: int, *_: Any) -> str:
    # The policy allows no style attribute.
    token = tokens[index]
    number = ' class="number"' if "right" in str(token.attrGet("style")) else ""
    scope = ' scope="col"' if token.tag == "th" else ""
    return f"<{token.tag}{scope}{number}>"


def _fence(renderer: Any, tokens: Sequence[Token], index: int, *_: Any) -> str:
    return f'<pre tabindex="0"><code>{escape(tokens[index].content)}</code></pre>\n'


def _image(
    renderer: Any, tokens: Sequence[Token], index: int, options: Any, environment: Any
) -> str:
    token = tokens[index]
    about = escape(renderer.renderInlineAsText(token.children, options, environment))
    shape = "".join(f' {name}="{token.attrGet(name)}"' for name in ("width", "height"))
    return (
        f'<button type="button" class="figure" aria-label="Enlarge: {about}">'
        f'<img src="{escape(str(token.attrGet("src")))}" alt="{about}"{shape}></button>'
    )


def _anchored(tokens: Sequence[Token]) -> list[Heading]:
    """Give every heading an id of its own; return them in order."""
    headings: list[Heading] = []
    taken: set[str] = set()
    for token, inline in pairwise(tokens):
        if token.type != "heading_open":
            continue
        text = _visible([inline])
        wanted = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "section"
        anchor, number = wanted, 2
        while anchor in taken:
            anchor, number = f"{wanted}-{number}", number + 1
        taken.add(anchor)
        token.attrSet("id", anchor)
        headings.append(Heading(int(token.tag[1:]), anchor, text))
    return headings


def _visible(tokens: Sequence[Token]) -> str:
    """Return the text that a reader sees of a heading."""
    return "".join(
        child.content for token in tokens for child in token.children or [] if child.content
    )


def _parts(tokens: Sequence[Token]) -> tuple[Sequence[Token], Sequence[Token], Sequence[Token]]:
    """Return title, answer and body: up to the end of the h1, up to the first h2, the rest."""
    titled = next(k for k, token in enumerate(tokens) if token.type == "heading_close") + 1
    answered = next(
        (k for k, token in enumerate(tokens) if token.type == "heading_open" and token.tag == "h2"),
        len(tokens),
    )
    return tokens[:titled], tokens[titled:answered], tokens[answered:]


def _embedded(tokens: Sequence[Token], folder: Path) -> None:
    """Put figures and small tables into the page; take links to other files away."""
    for token in tokens:
        if token.children is not None:
            token.children = list(_inline(token.children, folder))


def _inline(children: Sequence[Token], folder: Path) -> Iterator[Token]:
    open_links: list[bool] = []  # whether the link is kept
    for child in children:
        if child.type == "image":
            _embed_figure(child, folder)
        elif child.type == "link_open":
            open_links.append(_keep_link(child, folder))
            if not open_links[-1]:
                continue
        elif child.type == "link_close" and not open_links.pop():
            continue
        yield child


def _embed_figure(token: Token, folder: Path) -> None:
    path = folder / unquote(str(token.attrGet("src")))
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: can't be read: {error.strerror}; make it again") from None
    if content[:8] != b"\x89PNG\r\n\x1a\n" or content[12:16] != b"IHDR":
        raise InputError(f"{path}: is no PNG; make it again")
    if not content.endswith(PNG_END):
        raise InputError(f"{path}: is torn: a PNG without its end; make it again")
    width, height = (round(dots / DOTS_PER_PIXEL) for dots in struct.unpack(">II", content[16:24]))
    token.attrs |= {"src": _data_uri(content, "image/png"), "width": width, "height": height}


def _keep_link(token: Token, folder: Path) -> bool:
    """Return whether a link leads somewhere from the page, and make it do so."""
    target = str(token.attrGet("href"))
    if target.startswith("#"):
        return True
    if target.startswith("https://"):
        token.attrSet("rel", "noopener noreferrer")
        return True
    path = folder / unquote(target)
    if path.suffix != ".csv" or not path.is_file() or path.stat().st_size > LARGEST_TABLE:
        return False
    token.attrs |= {"href": _data_uri(path.read_bytes(), "text/csv"), "download": path.name}
    return True


def _data_uri(content: bytes, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
