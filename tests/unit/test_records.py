"""The records between stages: read as they were written, or refused on one line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pipeline.storage import records
from pipeline.storage.csv_files import read_table, write_table
from pipeline.storage.reading import CorruptFileError, MissingFileError, remedy
from pipeline.system.errors import InputError
from tests.unit.made_records import (
    made_evaluation,
    made_explanation,
    made_splits,
    made_timings,
    made_training,
)

LOGITS, LABELS = np.eye(3, dtype=np.float32), np.arange(3)
MADE = [
    records.Source(name="pets", obtained_from="/pets", files={"Hündin.png": "ab"}),
    made_splits(["cat", "Hündin"], 8, 3),
    made_splits(["cat", "dog"], 8, 1, folds=2, mean=[[0.5], [0.4]], std=[[0.1], [0.2]]),
    made_training(),
    made_evaluation(LOGITS, LABELS, ["cat", "dog", "Hündin"]),
    made_timings({"cnn": 1.5}),
    made_explanation(["all layers"]),
    made_explanation(["all layers"], attention=["block1.attention"]),
]


@pytest.mark.parametrize("record", MADE, ids=lambda record: type(record).__name__)
def test_record_is_read_as_it_was_written(record: records.Record, tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    records.write(path, record)
    assert records.read(path, type(record)) == record
    text = path.read_text(encoding="utf-8")
    assert text == json.dumps(json.loads(text), indent=2, ensure_ascii=False) + "\n"
    assert ("attention" in json.loads(text)) == (getattr(record, "attention", None) is not None)


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda text: text[:-1], "it ends within a line"),
        (lambda text: text[: len(text) // 2] + "\n", "Invalid JSON"),
        (lambda text: text.replace('"seed": 0,', ""), "without seed"),
        (
            lambda text: text.replace('"seed": 0', '"seed": "0"'),
            "seed: Input should be a valid int",
        ),
        (lambda text: text.replace("0.9", "NaN"), "validation_accuracy: Input should be a finite"),
        (lambda text: "[]\n", "Input should be an object"),
    ],
)
def test_corrupt_record_is_refused_on_one_line(damage, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "train.json"
    records.write(path, made_training())
    path.write_text(damage(path.read_text()))
    with pytest.raises(CorruptFileError) as refused:
        records.read(path, records.Training)
    assert str(refused.value).startswith(f"{path}: can't be read ({reason}")
    assert "\n" not in str(refused.value)


def test_missing_record_comes_with_what_to_run(tmp_path: Path) -> None:
    path = tmp_path / "train.json"
    with pytest.raises(MissingFileError, match="no such file"):
        records.read(path, records.Training)
    with pytest.raises(InputError) as refused, remedy("train first", "train again"):
        records.read(path, records.Training)
    assert str(refused.value) == f"{path}: no such file; train first"


def test_table_of_other_columns_is_not_written(tmp_path: Path) -> None:
    path = tmp_path / "randomisation.csv"
    row = dict.fromkeys(records.RANDOMISATION.columns, 1)
    write_table(pd.DataFrame([row]), path, records.RANDOMISATION)
    assert list(read_table(path, records.RANDOMISATION)) == list(records.RANDOMISATION.columns)
    with pytest.raises(ValueError, match="has the columns"):
        write_table(pd.DataFrame([row | {"more": 1}]), path, records.RANDOMISATION)


@pytest.mark.parametrize("value", ["", "inf", "nan", "x"])
def test_value_that_is_not_a_number_is_refused(value: str, tmp_path: Path) -> None:
    path = tmp_path / "history.csv"
    columns = list(records.HISTORY.columns)
    path.write_text(f"{','.join(columns)}\n1,{value},0.5,0.5,0.5,0.1,2\n")
    with pytest.raises(CorruptFileError, match=r"history\.csv: can't be read"):
        read_table(path, records.HISTORY)
