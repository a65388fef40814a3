"""The report as one web page: its Markdown, with all that it links to inside.

The page asks nothing of any network and runs no script but its own: a Content-Security-Policy
allows the hashes of its style and script and data URIs of images, and nothing else. Of HTML in the
Markdown only folded parts come through (``markdown.folded``); of links only those to a place in the
page, to a CSV file of the report, and to the web by https.
"""

from __future__ import annotations

import base64
import hashlib
import io
import itertools
import re
from collections.abc import Iterator, Sequence
from html import escape
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote, unquote

from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token
from markupsafe import Markup
from PIL import Image

from pipeline.figures.style import SETTINGS, TAG
from pipeline.report.filters import TEMPLATES, environment
from pipeline.report.view import View
from pipeline.system.errors import InputError

DOTS_PER_PIXEL = SETTINGS["savefig.dpi"] / 96  # so that all figures have letters of one size
POINTS_PER_PIXEL = 72 / 96
PNG_END = b"\x00\x00\x00\x00IEND\xaeB`\x82"  # the chunk: no data, its name, their checksum
SVG_SIZE = re.compile(rb'<svg [^>]*?width="([\d.]+)pt" height="([\d.]+)pt"|$')
SVG_SAFE = " <>=/:;,.()!?*+-_'"  # characters that a data URI may have as they are
WEBP_QUALITY = 50  # of photographs and maps in the page; the files beside it have all
LARGEST_TABLE = 20_000  # bytes of a CSV file that the page holds
FOLD = re.compile(r"(<details>)\n<summary>[^<>]*</summary>\s*|</details>\s*")
SECTION = ("heading_open", "h2")
ICON = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32">'
    '<rect width="32" height="32" rx="7" fill="#0b5d8f"/>'
    '<path d="M4 16c5-8 19-8 24 0-5 8-19 8-24 0z" fill="#fff"/>'
    '<circle cx="16" cy="16" r="5" fill="#0b5d8f"/></svg>'
)


class Heading(NamedTuple):
    """A heading that the table of contents leads to."""

    level: int
    anchor: str
    text: str


class _Renderer(RendererHTML):
    """Markdown as HTML without styles, scripts or foreign HTML; a method for each kind of token."""

    def html_block(self, tokens: Sequence[Token], index: int, _: Any, env: Any) -> str:
        content = tokens[index].content
        fold = FOLD.fullmatch(content)
        if not fold:
            return escape(content)
        env["folded"] = fold[1] is not None
        return content

    def html_inline(self, tokens: Sequence[Token], index: int, *_: Any) -> str:
        return escape(tokens[index].content)

    def table_open(self, *_: Any) -> str:
        # Focusable, so that whoever has no mouse can scroll it.
        return '<div class="scroll" role="group" aria-label="Table" tabindex="0">\n<table>\n'

    def table_close(self, *_: Any) -> str:
        return "</table>\n</div>\n"

    def th_open(self, tokens: Sequence[Token], index: int, *_: Any) -> str:
        # The policy allows no style attribute.
        token = tokens[index]
        number = ' class="number"' if "right" in str(token.attrGet("style")) else ""
        scope = ' scope="col"' if token.tag == "th" else ""
        return f"<{token.tag}{scope}{number}>"

    td_open = th_open

    def fence(self, tokens: Sequence[Token], index: int, *_: Any) -> str:
        return f'<pre tabindex="0"><code>{escape(tokens[index].content)}</code></pre>\n'

    def image(self, tokens: Sequence[Token], index: int, options: Any, env: Any) -> str:
        token = tokens[index]
        shown = escape(self.renderInlineAsText(token.children, options, env))
        about = escape(str(token.attrGet("title") or "")) or shown
        shape = "".join(f' {name}="{token.attrGet(name)}"' for name in ("width", "height"))
        # a data URI, without quotes and ampersands: escaped it would be twice as long
        source = str(token.attrGet("src"))
        kind = "figure drawing" if source.startswith("data:image/svg") else "figure"
        caption = f"<figcaption>{about}</figcaption>" if len(tokens) == 1 else ""
        picture = f'<img src="{source}" alt="{shown}"{shape}>'
        if env.get("folded"):
            # Where scripts run this is text until the fold is opened (page.js): browsers read a
            # data URI at once, even of what is not shown, and the page would open half as fast.
            picture = f"<noscript>{picture}</noscript>"
        return (
            f'<button type="button" class="{kind}" aria-label="Enlarge: {about}">'
            f"{picture}</button>{caption}"
        )


def page(text: str, folder: Path, view: View | None) -> str:
    """Return the report, Markdown that begins with its title, as an HTML page of one file.

    Its links are relative to `folder`. Without a `view` nothing but the text is at its head.

    Raises:
        InputError: if a figure that the report shows is missing, incomplete or not a PNG.
    """
    markdown = MarkdownIt("commonmark", {"html": True}, renderer_cls=_Renderer).enable("table")
    tokens = markdown.parse(text)
    headings = _anchored(tokens)
    for before, token, after in zip(tokens, tokens[1:], tokens[2:], strict=False):
        if token.children is not None:
            token.children = list(_embedded(token.children, folder))
            if [child.type for child in token.children] == ["image"]:  # and nothing else
                before.tag = after.tag = "figure"
    # the first heading ends the title, the second one that is an h2 the answer
    titled = next(k for k, token in enumerate(tokens) if token.type == "heading_close") + 1
    sections = (k for k, token in enumerate(tokens) if (token.type, token.tag) == SECTION)
    answered = next(sections, len(tokens))

    def rendered(part: Sequence[Token]) -> Markup:
        return Markup(markdown.renderer.render(part, markdown.options, {}))

    style, script = ((TEMPLATES / f"page.{kind}").read_text("utf-8") for kind in ("css", "js"))
    template = environment().get_template("page.html.j2")
    return template.render(
        # nothing but this style, this script, and images inside
        policy=f"default-src 'none'; img-src data:; style-src '{_hash(style)}'; "
        f"script-src '{_hash(script)}'; base-uri 'none'; form-action 'none'",
        title=headings[0].text,
        headings=[heading for heading in headings if heading.level in (2, 3)],
        view=view,
        heading=rendered(tokens[:titled]),
        answer=rendered(tokens[titled:answered]),
        body=rendered(tokens[answered:]),
        icon=_data_uri(ICON.encode(), "image/svg+xml"),
        style=Markup(style),
        script=Markup(script),
    )


def _hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _anchored(tokens: Sequence[Token]) -> list[Heading]:
    """Give every heading an id of its own; return them in order."""
    headings: dict[str, Heading] = {}  # by id
    for token, inline in pairwise(tokens):
        if token.type == "heading_open":
            text = "".join(child.content for child in inline.children or [])
            name = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "section"
            names = itertools.chain([name], (f"{name}-{number}" for number in itertools.count(2)))
            anchor = next(name for name in names if name not in headings)
            token.attrSet("id", anchor)
            headings[anchor] = Heading(int(token.tag[1:]), anchor, text)
    return list(headings.values())


def _embedded(children: Sequence[Token], folder: Path) -> Iterator[Token]:
    """Put figures and small tables into the page; take links to other files away."""
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
    embed = _embedded_drawing if path.suffix == ".svg" else _embedded_photographs
    source, width, height = embed(path, content)
    # decoded when it comes near the screen: the page opens in half the time
    token.attrs |= {
        "src": source, "width": round(width), "height": round(height), "loading": "lazy"
    }  # fmt: skip


def _embedded_drawing(path: Path, content: bytes) -> tuple[str, float, float]:
    """Return a drawing as a data URI, its width and its height in pixels of CSS."""
    size = SVG_SIZE.search(content)
    if size is None or size[1] is None:
        raise InputError(f"{path}: is not an SVG of a size in points; make it again")
    if not content.endswith(b"</svg>\n"):
        raise InputError(f"{path}: is incomplete: an SVG without its end; make it again")
    width, height = (float(points) / POINTS_PER_PIXEL for points in size.groups())
    # As text it is smaller than in base64, with as little as can be that has to be written as %22
    # or %0A. Names of fonts are quoted in quotes: they need none.
    text = TAG.sub(
        lambda tag: tag[0].replace("'", "").replace('"', "'"), " ".join(content.decode().split())
    )
    text = text.replace("> <", "><")
    return f"data:image/svg+xml,{quote(text, SVG_SAFE)}", width, height


def _embedded_photographs(path: Path, content: bytes) -> tuple[str, float, float]:
    """Return a PNG as the data URI of a WebP, its width and its height in pixels of CSS."""
    if content[:8] != b"\x89PNG\r\n\x1a\n" or content[12:16] != b"IHDR":
        raise InputError(f"{path}: is not a PNG; make it again")
    if not content.endswith(PNG_END):
        raise InputError(f"{path}: is incomplete: a PNG without its end; make it again")
    packed = io.BytesIO()
    with Image.open(io.BytesIO(content)) as figure:
        width, height = (dots / DOTS_PER_PIXEL for dots in figure.size)
        small = figure.convert("RGB").resize((round(width), round(height)))  # a dot to a CSS pixel
    small.save(packed, "WEBP", quality=WEBP_QUALITY, method=6)
    return _data_uri(packed.getvalue(), "image/webp"), width, height


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
