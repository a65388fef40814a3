"""Which installed fonts have the characters of a figure, and what is drawn where none has.

matplotlib takes a character from the first font of a list that has it. Its own DejaVu Sans comes
first, so that figures in Latin, Greek, Cyrillic, Arabic and some other scripts look the same
everywhere; after it come fonts of the system, only for what it lacks.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import matplotlib
from matplotlib import font_manager
from matplotlib.figure import Figure
from matplotlib.text import Text

OWN = "DejaVu Sans"
NORMAL_WEIGHT = 400
# the fonts that a person may install, by the word with which Unicode's names of characters begin
CJK = "Noto Sans CJK (fonts-noto-cjk in Debian)"
FONTS = dict.fromkeys(("CJK", "HIRAGANA", "KATAKANA", "HANGUL", "BOPOMOFO", "IDEOGRAPHIC"), CJK)


def families(text: str) -> list[str]:
    """Return the names of the fonts to draw a text with, DejaVu Sans first."""
    return [OWN, *dict.fromkeys(font for each in _lacking(text) if (font := _font_with(each)))]


def drawable(text: str) -> str:
    """Return the text, with ``U+732B`` and the like for characters that no font has."""
    lacking = {each for each in _lacking(text) if _font_with(each) is None}
    return "".join(f"U+{ord(each):04X}" if each in lacking else each for each in text)


@cache
def drawn_names(classes: tuple[str, ...]) -> tuple[str, ...]:
    """Return the names of classes as figures have them: ``class 3`` where no font has its name."""
    return tuple(
        name if drawable(name) == name else f"class {number}"
        for number, name in enumerate(classes, start=1)
    )


def fonts_wanted(classes: Iterable[str]) -> list[str]:
    """Return the fonts that would help where figures have numbers in place of names."""
    lacking = [each for each in _lacking("".join(classes)) if _font_with(each) is None]
    scripts = dict.fromkeys(unicodedata.name(each, "UNICODE").split()[0] for each in lacking)
    others = "Noto Sans {} (fonts-noto-core in Debian)"
    return [*dict.fromkeys(FONTS.get(each, others.format(each.title())) for each in scripts)]


def set_fonts(figure: Figure) -> None:
    """Have all texts of a figure drawn with the fonts that have their characters."""
    for text in figure.findobj(Text):
        assert isinstance(text, Text)
        found = families(text.get_text())
        if len(found) > 1:
            text.set_fontfamily(found)


def _lacking(text: str) -> list[str]:
    """Return the characters of a text that DejaVu Sans lacks; ends of lines are none."""
    own = _characters(font_manager.findfont(OWN))
    return [each for each in dict.fromkeys(text) if ord(each) not in own and each.isprintable()]


@cache
def _font_with(character: str) -> str | None:
    """Return the name of a font of the system that has a character, or None.

    matplotlib's others are for formulas, and its last resort has a box for every character.
    """
    code = ord(character)
    own = Path(matplotlib.get_data_path())
    fonts = font_manager.fontManager.ttflist
    for font in sorted(fonts, key=_how_plain):
        if own not in Path(font.fname).parents and code in _characters(font.fname):
            return str(font.name)
    return None


def _how_plain(font: font_manager.FontEntry) -> tuple[bool, int, str]:
    """Return what sorts a font the earlier the plainer it is."""
    weight = font.weight if isinstance(font.weight, int) else NORMAL_WEIGHT
    return (font.style != "normal", abs(weight - NORMAL_WEIGHT), font.name)


@cache
def _characters(path: str) -> frozenset[int]:
    """Return the code points that a font has; none of one that can't be read."""
    try:
        return frozenset(font_manager.get_font(path).get_charmap())
    except (OSError, RuntimeError):
        return frozenset()
