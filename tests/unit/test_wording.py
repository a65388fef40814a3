from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest

from pipeline.report.filters import environment
from pipeline.statistics.estimates import Estimate
from pipeline.system import formats


def test_numbers_are_written_as_a_person_would():
    assert formats.points(0.234) == "+0.23"
    assert formats.points(-0.001) == "0.00"
    assert formats.spread(97.312, 0.239) == "97.31 ± 0.24"
    assert formats.spread(97.312, math.nan) == "97.31"
    assert formats.relative(1_150_602, 1_147_914) == "0.2 % more"
    assert formats.relative(0.9, 1.0) == "10 % less"
    assert formats.relative(1.0, 1.0) == "no more"
    assert formats.change(1_150_602, 1_147_914) == "+0.2 %"
    assert formats.change(0.9, 1.0) == "-10 %"
    assert formats.change(1.0001, 1.0) == "0 %"
    assert formats.large(287_929_692) == "288 M"
    assert formats.large(999) == "999"
    assert [formats.duration(s) for s in (0.84, 47, 750, 11_160)] == [
        "0.8 s",
        "47 s",
        "12.5 min",
        "3.1 h",
    ]


@pytest.mark.parametrize(
    ("p", "text"),
    [
        (1.0, "1.00"),
        (0.165, "0.17"),
        (0.0949, "0.095"),
        (0.012, "0.012"),
        (0.00062, "0.0006"),
        (1e-9, "< 0.0001"),
        (math.nan, "-"),
    ],
)
def test_p_values_keep_the_digits_that_matter(p: float, text: str):
    assert formats.p_value(p) == text


def words(name: str, given: Any) -> str:
    """Return what a macro of ``answer.j2`` makes of a value."""
    return vars(environment().get_template("answer.j2").module)[name](given)


def test_interval_names_its_confidence():
    estimate = Estimate(0.48, 0.04, 0.9, 0.9)
    assert words("bounds", estimate) == "0.04 to 0.90 at 90 % confidence"
    assert words("signed_bounds", estimate) == "+0.04 to +0.90 at 90 % confidence"
    assert formats.interval_name(0.95) == "95 % interval"
    assert formats.interval_name(0.9875) == "98.75 % interval"
    assert formats.interval_name(0.99375) == "99.38 % interval"


@pytest.mark.parametrize(
    ("names", "text"), [(["a"], "a"), (["a", "b"], "a and b"), (["a", "b", "c"], "a, b and c")]
)
def test_names_are_listed_as_in_a_sentence(names: list[str], text: str):
    assert formats.listed(names) == text


@pytest.mark.parametrize(
    ("name", "text"), [("image_folder", "your images"), ("fashion_mnist", r"fashion\_mnist")]
)
def test_own_images_have_no_name_of_a_data_set(name: str, text: str):
    assert words("images", SimpleNamespace(dataset=SimpleNamespace(name=name))) == text
