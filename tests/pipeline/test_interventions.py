"""What a run notes of answers without the image, counted again from its arrays."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from tests.projects import Project

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("model", ["ca_cnn", "se_densenet"])
def test_answers_with_frozen_and_shuffled_attention_are_counted_right(
    snakemade: Project, model: str
) -> None:
    index = pd.read_csv(snakemade.root / "data/splits/index.csv")
    classes = json.loads((snakemade.root / "data/splits/dataset.json").read_text())["classes"]
    truth = [classes.index(str(name)) for name in index.loc[index["split"] == "test", "class"]]
    for seed in ("0", "1"):
        folder = snakemade.root / "data/evaluated" / model / seed
        answers = np.load(folder / "interventions.npz")
        noted = json.loads((folder / "metrics.json").read_text())["interventions"]
        logits = np.load(folder / "logits.npy")
        assert (answers["intact"] == logits.argmax(axis=1)).mean() > 0.99  # folding rounds
        assert set(answers) == {"intact", *noted} == {"intact", "frozen", "shuffled"}
        for name in noted:
            assert noted[name]["accuracy"] == pytest.approx(np.mean(answers[name] == truth))
            assert noted[name]["changed"] == (answers[name] != answers["intact"]).sum()


@pytest.mark.parametrize("model", ["cnn", "densenet"])
def test_network_without_attention_has_no_interventions(snakemade: Project, model: str) -> None:
    folder = snakemade.root / "data/evaluated" / model / "0"
    assert not (folder / "interventions.npz").exists()
    assert json.loads((folder / "metrics.json").read_text())["interventions"] == {}
