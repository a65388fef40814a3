"""Names in any script: drawn where an installed font has them, numbered and explained where not."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from matplotlib import font_manager
from matplotlib.figure import Figure
from PIL import Image

from pipeline.figures import fonts
from pipeline.figures.samples import draw_samples
from pipeline.figures.style import save, shortened, style

CHINESE, DEVANAGARI, ARABIC = "猫", "हाथी", "كلب"


@pytest.fixture
def only_bundled_fonts(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Take away what fonts this machine happens to have."""
    own = matplotlib.get_data_path()
    bundled = [font for font in font_manager.fontManager.ttflist if font.fname.startswith(own)]
    monkeypatch.setattr(font_manager.fontManager, "ttflist", bundled)
    fonts._font_with.cache_clear()
    yield
    fonts._font_with.cache_clear()


def install(path: Path, family: str, text: str) -> None:
    """Install a font in which each character of a text is a black square."""
    builder = FontBuilder(1000, isTTF=True)
    names = {ord(each): f"u{ord(each):04X}" for each in text}
    builder.setupGlyphOrder([".notdef", *names.values()])
    builder.setupCharacterMap(names)
    pen = TTGlyphPen(None)
    pen.moveTo((0, 0))
    for corner in ((0, 800), (1000, 800), (1000, 0)):
        pen.lineTo(corner)
    pen.closePath()
    square = pen.glyph()
    empty = TTGlyphPen(None).glyph()
    builder.setupGlyf({".notdef": empty} | dict.fromkeys(names.values(), square))
    builder.setupHorizontalMetrics(dict.fromkeys([".notdef", *names.values()], (1000, 0)))
    builder.setupHorizontalHeader(ascent=800, descent=-200)
    builder.setupNameTable({"familyName": family, "styleName": "Regular"})
    builder.setupOS2()
    builder.setupPost()
    builder.save(path)
    font_manager.fontManager.addfont(path)


def darkness(figure: Figure, path: Path) -> float:
    """Return the share of pixels that are black, once the figure was saved without a warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        save(figure, path)
    return float((np.asarray(Image.open(path).convert("L")) < 64).mean())


def titled(text: str) -> Figure:
    with style():
        figure = Figure(figsize=(2, 1))
        figure.text(0.5, 0.5, text, ha="center", fontsize=20)
    return figure


def test_names_that_no_font_has_are_numbered(only_bundled_fonts: None) -> None:
    names = ("cat", CHINESE, "Ζώο", ARABIC, DEVANAGARI, "кошка")
    assert fonts.drawn_names(names) == ("cat", "class 2", "Ζώο", ARABIC, "class 5", "кошка")
    assert fonts.fonts_wanted(names) == [
        "Noto Sans CJK (fonts-noto-cjk in Debian)",
        "Noto Sans Devanagari (fonts-noto-core in Debian)",
    ]
    assert fonts.fonts_wanted(("cat", "кошка")) == []


def test_a_name_in_a_title_is_spelt_where_no_font_has_it(
    only_bundled_fonts: None, tmp_path: Path
) -> None:
    assert shortened(f"{CHINESE}.png") == "U+732B.png"
    assert darkness(titled(shortened(CHINESE)), tmp_path / "title.png") > 0


def test_names_are_drawn_with_an_installed_font_that_has_them(
    only_bundled_fonts: None, tmp_path: Path
) -> None:
    install(tmp_path / "made.ttf", "Made Han", CHINESE + DEVANAGARI)
    names = ("cat", CHINESE, DEVANAGARI)
    assert fonts.drawn_names(names) == names
    assert fonts.fonts_wanted(names) == []
    assert fonts.families(f"cat {CHINESE}") == ["DejaVu Sans", "Made Han"]
    assert fonts.families("cat") == ["DejaVu Sans"]
    found = darkness(titled(CHINESE * 3), tmp_path / "title.png")
    # three squares of 20 points by 16, at 150 dots an inch, of 2 inches by 1
    assert found == pytest.approx(3 * 20 * 16 / 72**2 / 2, rel=0.1)


def test_labels_of_axes_have_the_fonts_too(only_bundled_fonts: None, tmp_path: Path) -> None:
    install(tmp_path / "made.ttf", "Made Han", CHINESE)
    with style():
        figure = Figure(figsize=(3, 3), layout="constrained")
        axes = figure.subplots()
        axes.set_yticks([0, 1], [CHINESE, "cat"])
        axes.set_xlabel(CHINESE)
    darkness(figure, tmp_path / "axes.png")  # a warning is an error


def test_a_figure_of_classes_in_other_scripts_has_no_empty_box(
    only_bundled_fonts: None, tmp_path: Path
) -> None:
    names = fonts.drawn_names((CHINESE, ARABIC, DEVANAGARI))
    images = np.full((30, 8, 8, 3), 200, np.uint8)
    labels = np.arange(30) % 3
    darkness(draw_samples(images, labels, np.arange(30), names, 0), tmp_path / "samples.png")


def test_a_font_that_cant_be_read_is_passed_over(only_bundled_fonts: None, tmp_path: Path) -> None:
    install(tmp_path / "broken.ttf", "Broken", CHINESE)
    (tmp_path / "broken.ttf").write_bytes(b"no font")
    assert fonts.drawn_names((CHINESE,)) == ("class 1",)
