"""The report is written, and whole, whatever is compared."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import pandas as pd
import pytest

from pipeline.settings import load
from tests.unit.report.made_project import Project, into_folds, into_splits, settings, tables

DIVISIONS = {"one split": into_splits, "two folds": into_folds}
BASELINES = {"none": None, "one": "cnn", "two": ["cnn", "densenet"]}


@pytest.mark.usefixtures("blank_figures")
@pytest.mark.parametrize(
    ("division", "judged_by", "baselines", "seeds"),
    [
        of
        for of in product(DIVISIONS, ("accuracy", "balanced_accuracy"), BASELINES, (1, 2))
        if of[0] == "one split" or of[3] == 2
    ],
)
def test_report_is_written(
    division: str, judged_by: str, baselines: str, seeds: int, tmp_path: Path
) -> None:
    project = Project(tmp_path, DIVISIONS[division])
    content = settings(seeds=list(range(seeds))).model_dump()
    content["report"]["judged_by"] = judged_by
    content["split"]["folds"] = 2 if division == "two folds" else None
    content["architectures"]["ca_cnn"]["baseline"] = BASELINES[baselines]
    text = project.report(load.check(content)).partition("### Provenance")[0]
    for table in tables(text):
        assert len({len(row) for row in table}) == 1
    for word in ("nan", "None", "Undefined", "1 seeds", "1 classes"):
        assert f" {word} " not in text
    if seeds == 1:
        for word in (
            "over seeds",
            "each seed",
            "seeds disagree",
            "interval excludes",
            "pairs together",
        ):
            assert word not in text
    rows = pd.read_csv(project.reports / "comparison.csv")
    assert set(rows["judged_by"].dropna()) == {judged_by}
    name = {"accuracy": "Test accuracy", "balanced_accuracy": "Balanced test accuracy"}[judged_by]
    assert rf"& {name} (\%) &" in (project.reports / "comparison.tex").read_text()
