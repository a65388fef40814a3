"""Every verdict that docs/results prints, computed from the predictions beside it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from docs.results import looking, ranks
from pipeline.storage.npy import save_array
from tests.docs.pages import ROOT
from tests.unit.test_command_line import run

PAIRS = [
    (path.parent, pair)
    for path in sorted((ROOT / "docs" / "results").glob("*/verdict.json"))
    for pair in json.loads(path.read_text(encoding="utf-8"))["pairs"]
]


@pytest.mark.parametrize(
    ("folder", "pair"),
    PAIRS,
    ids=[f"{folder.name}-{pair['model']}-{pair['baseline']}" for folder, pair in PAIRS],
)
def test_compare_gives_the_printed_verdict(folder: Any, pair: dict[str, Any]) -> None:
    files = {
        option: sorted(map(str, folder.glob(f"predictions/{pair[key]}-*.npy")))
        for option, key in (("--candidate", "model"), ("--baseline", "baseline"))
    }
    assert {len(found) for found in files.values()} == {pair["seeds"]}
    done = run(
        *("compare", "--candidate", *files["--candidate"], "--baseline", *files["--baseline"]),
        *("--labels", str(folder / "labels.npy"), "--margin", str(pair["margin"])),
        *("--confidence", str(pair["confidence"]), "--json"),
        cwd=folder,
    )
    found = json.loads(done.stdout)
    words = ("verdict", "reason")
    assert [found[name] for name in words] == [pair[name] for name in words]
    numbers = ("gain", "low", "high", "p", "degrees_of_freedom", "images")
    assert [found[name] for name in numbers] == pytest.approx(
        [pair[name] for name in numbers], rel=1e-9
    )


WITH_ATTENTION = sorted((ROOT / "docs" / "results").glob("*/interventions"))


@pytest.mark.parametrize("answers", WITH_ATTENTION, ids=lambda path: path.parent.name)
def test_whether_attention_looks_is_what_the_answers_say(answers: Path) -> None:
    printed = json.loads((answers.parent / "verdict.json").read_text(encoding="utf-8"))["networks"]
    found = looking.found_in(answers.parent)
    assert {model: of.looks for model, of in found.items()} == {
        model: of["looks_at_image"] for model, of in printed.items()
    }
    for model, of in found.items():
        for kind in ("frozen", "shuffled"):
            assert vars(getattr(of, kind)) == pytest.approx(printed[model][f"{kind}_loss"])


def test_rank_is_shared_by_what_is_not_told_apart(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 10, 2000)
    save_array(tmp_path / "labels.npy", labels.astype(np.uint8))
    (tmp_path / "predictions").mkdir()
    accuracies = {"good": 0.9, "as_good": 0.9, "middling": 0.7, "bad": 0.5}
    for model, accuracy in accuracies.items():
        for seed in range(5):
            wrong = generator.random(2000) >= accuracy
            predicted = np.where(wrong, (labels + 1) % 10, labels).astype(np.uint8)
            save_array(tmp_path / "predictions" / f"{model}-{seed}.npy", predicted)
    expected = {"good": 1, "as_good": 1, "middling": 3, "bad": 4}
    assert ranks.ranks(tmp_path, list(accuracies)) == expected
