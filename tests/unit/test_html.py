from __future__ import annotations

import base64
import hashlib
import io
import re
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote
from xml.etree import ElementTree

import pytest
from PIL import Image

from pipeline.report import markdown
from pipeline.report.page import page as render_page
from pipeline.report.view import View
from pipeline.statistics.outcome import Judgement, Outcome
from pipeline.storage.records import NO_DUPLICATES
from pipeline.system.errors import InputError
from tests.unit.made_records import DRAWING
from tests.unit.made_runs import compared, viewed

HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "[click](javascript:alert(1))",
    "![x](https://example.com/x.png)",
    "</style><script>alert(1)</script>",
    "</details><script>alert(1)</script>",
    "&lt;b&gt;",
    "`code` | cell",
]
# Elements that a page of a report has no use for.
FOREIGN = {"iframe", "object", "embed", "form", "base", "svg", "math", "template", "input"}


class Elements(HTMLParser):
    """Collect the elements of a page with their attributes, and the text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str]]] = []
        self.text: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, {name: value or "" for name, value in attrs}))

    def handle_data(self, data: str) -> None:
        self.text.append(data)

    def named(self, tag: str) -> Iterator[dict[str, str]]:
        return (attributes for name, attributes in self.found if name == tag)


def page(text: str, folder: Path, view: View | None = None) -> str:
    return render_page(f"# Title\n\nAnswer.\n\n## First\n\n{text}\n", folder, view)


def assert_harmless(text: str) -> None:
    """Assert that nothing in a page runs, or is asked for, but what the page brings itself."""
    elements = Elements(text)
    assert len(list(elements.named("script"))) == 1
    assert not FOREIGN & {tag for tag, _ in elements.found}
    for tag, attributes in elements.found:
        assert not [name for name in attributes if name.startswith("on") or name == "style"]
        assert attributes.get("src", "data:image/").startswith("data:image/"), tag
        target = attributes.get("href", "#")
        assert target.startswith(("#", "https://", "data:image/", "data:text/csv;")), target


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_are_shown_and_do_nothing(tmp_path: Path, name: str):
    escaped = markdown.escape(name)
    table = markdown.table(f"| {escaped} | n |\n| {escaped} | 1 |")
    text = f"{escaped}\n\n{table}\n\n{markdown.folded(escaped, name)}\n\n"
    text += markdown.fenced(f"model: {name}", "yaml")
    made = render_page(
        f"# {escaped}\n\n{escaped}\n\n## {escaped}\n\n{text}",
        tmp_path,
        viewed(compared({name: None, "candidate": name}), "candidate"),
    )
    assert_harmless(made)
    # title, heading, answer, contents, h2, paragraph, two cells, summary, fold, code, card
    shown = "".join(Elements(made).text)
    assert shown.count(name) == 12


@pytest.mark.parametrize("name", [name for name in HOSTILE if not name.startswith("!")])
def test_not_even_unescaped_names_do_anything(tmp_path: Path, name: str):
    assert_harmless(page(f"{name}\n\n- {name}\n\n> {name}\n\n{name}", tmp_path))


@pytest.mark.parametrize(
    "target",
    ["javascript:alert(1)", "data:text/html,x", "http://example.com", "//example.com", "../x.csv"],
)
def test_links_that_lead_out_of_the_page_are_taken_away(tmp_path: Path, target: str):
    made = page(f"[the text](<{target}>)", tmp_path)
    assert "the text" in "".join(Elements(made).text)
    assert [link["href"] for link in Elements(made).named("a")] == ["#report", "#first"]


def test_sources_on_the_web_are_linked_without_a_referrer(tmp_path: Path):
    *_, link = Elements(page("[paper](https://arxiv.org/abs/1608.06993)", tmp_path)).named("a")
    assert link == {
        "href": "https://arxiv.org/abs/1608.06993",
        "rel": "noopener noreferrer",
    }


def test_small_tables_are_inside_to_be_saved_and_large_ones_are_named(tmp_path: Path):
    (tmp_path / "tables").mkdir()
    small, large = tmp_path / "tables" / "small.csv", tmp_path / "tables" / "large.csv"
    small.write_text("a,b\n1,ü\n", encoding="utf-8")
    large.write_bytes(b"1\n" * 600_000)
    made = page("[small](tables/small.csv), [large](tables/large.csv)", tmp_path)
    *_, link = Elements(made).named("a")
    assert link["download"] == "small.csv"
    kind, content = link["href"].split(",")
    assert kind == "data:text/csv;base64"
    assert base64.b64decode(content) == small.read_bytes()
    assert "large" in "".join(Elements(made).text)


def test_figures_are_inside_with_size_and_description(tmp_path: Path):
    Image.new("RGB", (150, 75), "red").save(tmp_path / "a b.png")
    made = page(markdown.image('of "a" & <b>', "a b.png"), tmp_path)
    (figure,) = [image for image in Elements(made).named("img") if image.get("width") == "96"]
    assert (figure["height"], figure["alt"]) == ("48", 'of "a" & <b>')
    content = base64.b64decode(figure["src"].removeprefix("data:image/webp;base64,"))
    with Image.open(io.BytesIO(content)) as shown:
        assert shown.size == (96, 48)
        assert shown.getpixel((50, 20)) == pytest.approx((255, 0, 0), abs=3)


def test_drawings_are_inside_as_what_they_are(tmp_path: Path):
    (tmp_path / "x.svg").write_text(DRAWING)
    made = page("![x](x.svg)", tmp_path)
    assert_harmless(made)
    (figure,) = [image for image in Elements(made).named("img") if image.get("alt") == "x"]
    assert (figure["width"], figure["height"]) == ("6", "4")
    text = unquote(figure["src"].removeprefix("data:image/svg+xml,"))
    root = ElementTree.fromstring(text)
    assert root.attrib == {"width": "4.5pt", "height": "3pt"}
    assert [part.text for part in root] == ['a "b" <c\'d']


@pytest.mark.parametrize("kept", [0, 30, len(DRAWING) // 2, len(DRAWING) - 3])
def test_a_part_of_a_drawing_is_refused(tmp_path: Path, kept: int):
    (tmp_path / "x.svg").write_text(DRAWING[:kept])
    with pytest.raises(InputError, match=r"x\.svg: is (incomplete|not an SVG)"):
        page("![x](x.svg)", tmp_path)


def test_figure_on_the_web_is_never_asked_for(tmp_path: Path):
    with pytest.raises(InputError, match="can't be read"):
        page("![x](https://example.com/x.png)", tmp_path)


@pytest.mark.parametrize("content", [None, b"<svg onload='alert(1)'>"])
def test_figure_that_is_missing_or_no_png_is_refused(tmp_path: Path, content: bytes | None):
    if content is not None:
        (tmp_path / "x.png").write_bytes(content)
    with pytest.raises(InputError, match=r"x\.png: (can't be read|is not a PNG)"):
        page("![x](x.png)", tmp_path)


@pytest.mark.parametrize("kept", [30, 3000, -1])
def test_incomplete_figure_is_refused(tmp_path: Path, kept: int):
    Image.effect_noise((90, 90), 50).save(tmp_path / "x.png")
    content = (tmp_path / "x.png").read_bytes()
    assert len(content) > 3000
    (tmp_path / "x.png").write_bytes(content[:kept])
    with pytest.raises(InputError, match=r"x\.png: is incomplete"):
        page("![x](x.png)", tmp_path)


def test_policy_allows_the_pages_own_style_and_script_alone(tmp_path: Path):
    made = page("text", tmp_path)
    (policy,) = [
        meta["content"]
        for meta in Elements(made).named("meta")
        if meta.get("http-equiv") == "Content-Security-Policy"
    ]
    assert policy.startswith("default-src 'none'; img-src data:;")
    assert "unsafe" not in policy
    for tag in ("style", "script"):
        (content,) = re.findall(rf"<{tag}>(.*?)</{tag}>", made, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy


def test_contents_lead_to_headings_with_different_anchors(tmp_path: Path):
    made = page("### Same\n\n### Same\n\n## First\n\n### Same 2\n\n### ***", tmp_path)
    elements = Elements(made)
    targets = [link["href"][1:] for link in elements.named("a")][1:]
    anchors = [
        attributes["id"]
        for tag, attributes in elements.found
        if tag in ("h2", "h3") and "id" in attributes
    ]
    assert targets == anchors
    assert len(set(anchors)) == len(anchors) == 6


def test_folds_stay_folds(tmp_path: Path):
    made = page(markdown.folded("**content**", "a & b"), tmp_path)
    assert "<summary>a &amp; b</summary>" in made
    assert "<strong>content</strong>" in made


def test_page_says_its_language_title_verdict_and_numbers(tmp_path: Path):
    found = viewed(compared(), "ca_cnn")
    made = page("text", tmp_path, found)
    assert next(Elements(made).named("html"))["lang"] == "en"
    assert "<title>Title</title>" in made
    assert '<p class="badge open">Undecided</p>' in made
    accuracy = found.candidate.summary.accuracy.mean
    baseline = next(one for one in found.architectures if one.name == "cnn").summary.accuracy.mean
    assert (
        f"<dt>Test accuracy</dt><dd>{accuracy:.2f} %</dd>"
        f'<dd class="remark">cnn: {baseline:.2f} %</dd>'
    ) in made


@pytest.mark.parametrize(
    ("pair", "outcome", "more", "copied", "badge"),
    [
        ({}, "pays", (), 0, ("good", "Pays")),
        ({}, "better", (), 0, ("good", "Better")),
        ({}, "does not pay", (), 0, ("bad", "Does not pay")),
        ({}, "worse", (), 0, ("bad", "Worse")),
        ({}, "undecided", (), 0, ("open", "Undecided")),
        ({}, "pays", (), 1, ("open", "Pays, with reservations")),
        ({}, "pays", ("hidden",), 0, ("open", "Pays, with reservations")),
        ({"guessing": ("cnn",)}, "pays", (), 0, ("void", "No answer")),
        ({}, "undecided", None, 0, ("void", "Same settings")),
    ],
)
def test_badge_is_the_verdict_unless_something_overturns_it(
    tmp_path: Path,
    pair: dict[str, Any],
    outcome: Outcome,
    more: tuple[str, ...] | None,
    copied: int,
    badge: tuple[str, str],
):
    found = viewed(compared(), "ca_cnn")
    assert found.candidate.pair is not None
    result = replace(
        found.candidate.pair.result,
        judgement=Judgement(outcome, None),
        differs_in=() if more is None else ("attention", *more),
    )
    changed = replace(found.candidate.pair, **pair, result=result)
    dataset = replace(
        found.dataset, duplicates=NO_DUPLICATES.model_copy(update={"test_images": copied})
    )
    made = page(
        "text",
        tmp_path,
        replace(found, candidate=replace(found.candidate, pairs=(changed,)), dataset=dataset),
    )
    assert f'<p class="badge {badge[0]}">{badge[1]}</p>' in made


def test_candidate_without_a_baseline_has_no_badge(tmp_path: Path):
    made = page("text", tmp_path, viewed(compared(), "cnn"))
    assert 'class="badge' not in made
    assert "<dt>MACs</dt>" in made
