"""Whatever became of a file between two stages: the next stage names it and says what to do."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from ruamel.yaml import YAML

from pipeline.cli import main
from pipeline.settings import presets
from tests.fuzz.broken import damaged
from tests.fuzz.conftest import Outcomes
from tests.fuzz.strategies import IS_CAMPAIGN, JUNK, examples

MODEL = "ca_cnn"
RUN = ("--model", MODEL, "--seed", "0")

# What each command reads, and the folder that it would replace.
SPLITS = tuple(
    f"data/splits/{name}" for name in ("dataset.json", "images.npy", "labels.npy", "index.csv")
)
WEIGHTS = f"data/trained/{MODEL}/0/model.safetensors"
EXPLAINED = f"reports/figures/architectures/{MODEL}"
READS = {
    ("split",): (
        ("data/raw/source.json", "data/raw/images.npy", "data/raw/labels.npy"),
        "data/splits",
    ),
    ("train", *RUN): (SPLITS, f"data/trained/{MODEL}/0"),
    ("evaluate", *RUN): ((*SPLITS, WEIGHTS), f"data/evaluated/{MODEL}/0"),
    ("measure",): (SPLITS, "data/measured"),
    ("explain", "--model", MODEL): ((*SPLITS, WEIGHTS), EXPLAINED),
    ("predict", "--model", MODEL, "image.png"): ((*SPLITS, WEIGHTS), "predictions"),
    ("report",): (
        (
            *SPLITS,
            f"data/trained/{MODEL}/0/history.csv",
            f"data/trained/{MODEL}/0/train.json",
            *(f"data/evaluated/{MODEL}/0/{name}" for name in ("logits.npy", "metrics.json")),
            "data/measured/timings.json",
            *(
                f"{EXPLAINED}/{name}"
                for name in (
                    "explain.json",
                    "faithfulness.csv",
                    "faithfulness_areas.csv",
                    "empty_images.csv",
                    "randomisation.csv",
                    "attention_variation.csv",
                    "grad_cam.npy",
                )
            ),
        ),
        "reports",
    ),
}
SLOW = ("explain", "report")  # each takes seconds where it isn't refused: for a campaign alone
CASES = [
    (command, file)
    for command, (files, _) in READS.items()
    for file in files
    if IS_CAMPAIGN or command[0] not in SLOW
]


def run(*arguments: str) -> tuple[int, str]:
    """Run a command line as ``python -m pipeline`` would; return its exit code and its errors."""
    errors = io.StringIO()
    with (
        warnings.catch_warnings(),
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(errors),
    ):
        warnings.simplefilter("error")
        try:
            code = main(arguments)
        except SystemExit as ended:
            code = int(ended.code or 0)
    return code, errors.getvalue()


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A finished project of the smallest networks, in the working folder."""
    folder = tmp_path_factory.mktemp("project")
    (folder / "data" / "local").mkdir(parents=True)
    content = presets.values("smoke")
    content |= {"model": MODEL, "seeds": [0]}
    content["architectures"] = {name: content["architectures"][name] for name in ("cnn", MODEL)}
    content["split"]["max_per_class"] = 4
    content["train"]["epochs"] = 1
    content["compute"] |= {"device": "cpu", "precision": "fp32"}
    content["explain"] |= {"images": 1, "channels": 1, "faithfulness_images": 2}
    content["explain"] |= {"faithfulness_steps": 2, "random_networks": 2}
    Image.new("RGB", (9, 9), "red").save(folder / "image.png")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        with Path("params.yaml").open("w", encoding="utf-8") as file:
            YAML(typ="safe", pure=True).dump(content, file)
        for name in ("download", "split"):
            assert run(name)[0] == 0
        for model in ("cnn", MODEL):
            for name in ("train", "evaluate"):
                assert run(name, "--model", model, "--seed", "0")[0] == 0
            if IS_CAMPAIGN:
                assert run("explain", "--model", model)[0] == 0
        assert run("predict", "--model", MODEL, "image.png")[0] == 0
        assert run("measure")[0] == 0
        if IS_CAMPAIGN:
            assert run("report")[0] == 0
        yield folder


@st.composite
def altered_json(draw: st.DrawFn, original: bytes) -> bytes:
    """JSON with a value that is another, or missing, at any depth."""
    content = json.loads(original)
    section: Any = content
    while True:
        keys = list(section) if isinstance(section, dict) else list(range(len(section)))
        key = draw(st.sampled_from(keys))
        inner = section[key]
        if not isinstance(inner, dict | list) or not inner or draw(st.booleans()):
            break
        section = inner
    if draw(st.booleans()):
        del section[key]
    else:
        section[key] = draw(JUNK)
    return json.dumps(content).encode() + b"\n"


@st.composite
def altered_csv(draw: st.DrawFn, original: bytes) -> bytes:
    """A table with a cell, a row or a column that is another, or missing."""
    rows = [line.split(",") for line in original.decode().splitlines()]
    row = draw(st.integers(0, len(rows) - 1))
    column = draw(st.integers(0, len(rows[row]) - 1))
    match draw(st.sampled_from(["cell", "row", "column", "double"])):
        case "cell":
            cells = st.sampled_from(["", "nan", "inf", "-1", "x", "9" * 30, '"', "1e999", "\x00"])
            rows[row][column] = draw(cells)
        case "row":
            del rows[row]
        case "column":
            rows = [cells[:column] + cells[column + 1 :] for cells in rows]
        case "double":
            rows.insert(row, rows[row])
    return "".join(",".join(cells) + "\n" for cells in rows).encode()


def _npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array, allow_pickle=True)
    return file.getvalue()


@st.composite
def altered_npy(draw: st.DrawFn, original: bytes) -> bytes:
    """An array of another type, shape or values."""
    array = np.load(io.BytesIO(original))
    match draw(st.sampled_from(["type", "shape", "fewer", "values", "objects"])):
        case "type":
            kinds = st.sampled_from([np.float64, np.int8, np.bool_, np.complex64, "U3", "S2"])
            array = array.astype(draw(kinds))
        case "shape":
            array = draw(st.sampled_from([array.ravel(), array[None], array.T, array[..., :0]]))
        case "fewer":
            array = array[: draw(st.integers(0, len(array)))]
        case "values":
            extreme = draw(st.sampled_from([np.nan, np.inf, -1, 10**9]))
            with np.errstate(all="ignore"):
                array = np.full_like(array.astype(np.float64), extreme).astype(array.dtype)
        case "objects":
            array = np.array([{}, None], dtype=object)
    return _npy(array)


ALTERED = {".json": altered_json, ".csv": altered_csv, ".npy": altered_npy}


@st.composite
def spoilt(draw: st.DrawFn, project: Path, file: str) -> bytes | None:
    """Another content for a file of the project; None where it is gone."""
    original = (project / file).read_bytes()
    kind = draw(st.sampled_from(["damaged", "altered", "altered", "foreign", "gone"]))
    if kind == "gone":
        return None
    if kind == "foreign":
        other = draw(st.sampled_from(sorted({other for _, other in CASES})))
        return (project / other).read_bytes()
    alter = ALTERED.get(Path(file).suffix)
    if kind == "altered" and alter is not None:
        return draw(alter(original))
    return draw(damaged(original))


def hashes(folder: Path) -> dict[str, str]:
    return {
        str(path): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@contextlib.contextmanager
def replaced(path: Path, content: bytes | None) -> Iterator[None]:
    """Let a file hold something else, and then what it held."""
    original = path.read_bytes()
    try:
        if content is None:
            path.unlink()
        else:
            path.write_bytes(content)
        yield
    finally:
        path.write_bytes(original)


def put_back(kept: dict[str, bytes], folder: Path) -> None:
    """Let a folder hold what it held."""
    for path in folder.rglob("*"):
        if path.is_file() and str(path) not in kept:
            path.unlink()
    for name, content in kept.items():
        Path(name).write_bytes(content)


@examples(25, 400)
@given(data=st.data(), case=st.sampled_from(CASES))
def test_spoilt_input_is_reported_on_one_line_and_nothing_is_lost(
    data: st.DataObject, case: tuple[tuple[str, ...], str], project: Path, outcomes: Outcomes
) -> None:
    command, file = case
    content = data.draw(spoilt(project, file), label=f"{command} with {file}")
    out = Path(READS[command][1])
    kept = {str(path): path.read_bytes() for path in out.rglob("*") if path.is_file()}
    with replaced(Path(file), content):
        before = hashes(out)
        code, errors = run(*command)
        after = hashes(out)
    if code == 0:
        put_back(kept, out)
        outcomes.add(f"inputs of {command[0]}", "harmless: the stage is done")
        return
    assert code in (1, 2)
    reported = [line for line in errors.splitlines() if line.startswith("error: ")]
    assert len(reported) == 1, errors
    assert reported[0].isprintable()
    inputs = READS[command][0]
    assert any(name in reported[0] or f"{Path(name).parent}: " in reported[0] for name in inputs), (
        reported[0]
    )
    assert (
        " again" in reported[0] or "python -m pipeline" in reported[0] or "first" in reported[0]
    ), reported[0]
    assert after == before
    outcomes.add(f"inputs of {command[0]}", "reported on one line with the file and what to do")
