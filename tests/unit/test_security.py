"""What docs/security.md promises: data stay data, whoever they are from."""

from __future__ import annotations

import ast
import hashlib
import http.server
import io
import os
import pickle
import tarfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from markdown_it import MarkdownIt

from pipeline.cli import main
from pipeline.data import arrays
from pipeline.data.sources import fetching, torchvision_sets
from pipeline.report import markdown
from pipeline.settings import presets
from pipeline.storage.csv_files import as_csv
from pipeline.system.errors import InputError
from pipeline.training.checkpoints import Checkpoints
from pipeline.training.weights import load_weights

ROOT = Path(__file__).parents[2]
SOURCES = sorted([*ROOT.glob("pipeline/**/*.py"), *ROOT.glob("benchmarks/**/*.py")])


# --- no setting reaches a shell -------------------------------------------------------------------


def test_no_command_of_dvc_yaml_holds_a_setting() -> None:
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    commands = {name: stage["cmd"] for name, stage in stages.items()}
    matrix_stages = {name for name, stage in stages.items() if "matrix" in stage}
    assert matrix_stages == {"train", "evaluate", "explain"}
    assert commands == {
        name: (
            'python -m pipeline stage "$DVC_STAGE"'
            if name in matrix_stages
            else f"python -m pipeline {name}"
        )
        for name in stages
    }


def smoke(folder: Path, old: str = "", new: str = "") -> Path:
    """Write the smoke preset with one edit and return its path."""
    text = presets.text("smoke")
    assert old in text
    path = folder / "params.yaml"
    path.write_text(text.replace(old, new, 1) if old else text)
    return path


@pytest.mark.parametrize("prefix", ["", "../dvc.yaml:", "a: b/dvc.yaml:"])
@pytest.mark.parametrize(
    ("name", "called"),
    [
        ("train@ca_cnn-1", ("train", "ca_cnn", 1)),
        ("evaluate@densenet-0", ("evaluate", "densenet", 0)),
        ("explain@se_densenet", ("explain", "se_densenet")),
    ],
)
def test_stage_is_run_by_the_name_that_dvc_gives_it(
    prefix: str, name: str, called: tuple, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipeline import cli as command_line

    calls = []
    for stage, function in (("train", "_train"), ("evaluate", "evaluate"), ("explain", "explain")):
        monkeypatch.setattr(
            command_line, function, lambda *given, stage=stage: calls.append((stage, *given))
        )
    params = smoke(tmp_path)
    with pytest.raises(SystemExit) as ended:
        main(["stage", prefix + name, "--params", str(params)])
    assert ended.value.code == 0
    assert len(calls) == 1
    assert calls[0][: len(called) + 1] == (*called, params)


@pytest.mark.parametrize("name", ["train@cnn-9", "train@cnn", "report", "$(id)", "../..", ""])
def test_stage_that_params_do_not_have_is_refused(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["stage", name, "--params", str(smoke(tmp_path))]) == 2
    assert f"error: STAGE: '{name}' is not one of" in capsys.readouterr().err


def test_message_about_a_hostile_name_sends_nothing_to_the_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    params = smoke(tmp_path, "  ca_cnn:", '  "a\\e]0;owned\\a\\e[31m":')
    assert main(["check", "--params", str(params)]) == 2
    printed = capsys.readouterr().err
    assert r"'a\x1b]0;owned\x07\x1b[31m'" in printed
    assert printed.removesuffix("\n").isprintable()


# --- no file is taken for code --------------------------------------------------------------------

# modules that run what they read, or make it easy to
DANGEROUS_MODULES = {"dill", "joblib", "marshal", "pickle", "shelve"}
DANGEROUS_CALLS = {"eval", "exec", "compile", "__import__", "os.system", "os.popen"}
# a person's own loss by dotted path is code, and docs/security.md says so
IMPORTED_BY_NAME = {"pipeline/training/losses.py"}


def dangers(source: str, path: str) -> Iterator[str]:
    """Yield what in `source` may run data as code."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ({alias.name for alias in node.names} & DANGEROUS_MODULES)
        elif isinstance(node, ast.ImportFrom) and node.module in DANGEROUS_MODULES:
            yield str(node.module)
        elif isinstance(node, ast.Call):
            yield from call_dangers(node, path)


def call_dangers(call: ast.Call, path: str) -> Iterator[str]:
    name = ast.unparse(call.func)
    given = {word.arg: ast.unparse(word.value) for word in call.keywords}
    if name in DANGEROUS_CALLS:
        yield name
    if name.endswith("import_module") and path not in IMPORTED_BY_NAME:
        yield name
    if name.endswith("torch.load") and given.get("weights_only") != "True":
        yield name
    if name.endswith(("np.load", "numpy.load")) and given.get("allow_pickle", "False") != "False":
        yield name
    if name in ("yaml.load", "yaml.unsafe_load", "yaml.full_load"):
        yield name
    if name == "YAML" and given.get("typ", "'rt'") not in ("'rt'", "'safe'"):
        yield name
    if given.get("shell", "False") != "False":
        yield f"{name}(shell=...)"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_source_runs_no_data_as_code(path: Path) -> None:
    assert list(dangers(path.read_text(), path.relative_to(ROOT).as_posix())) == []


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from joblib import load",
        "def f():\n    import marshal",
        "eval(text)",
        "os.system(text)",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "np.load(path, allow_pickle=True)",
        "yaml.load(text, Loader=Loader)",
        "YAML(typ='unsafe')",
        "subprocess.run(text, shell=True)",
        "importlib.import_module(name)",
    ],
)
def test_what_would_run_data_is_found(source: str) -> None:
    assert len(list(dangers(source, "pipeline/stages/train.py"))) == 1


class Bomb:
    """Makes a file where it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.target),)


def test_pickle_in_the_place_of_weights_is_not_unpickled(tmp_path: Path) -> None:
    target, path = tmp_path / "owned", tmp_path / "model.safetensors"
    torch.save({"weight": Bomb(target)}, path)
    with pytest.raises(InputError, match="can't be read as safetensors"):
        load_weights(torch.nn.Linear(1, 1), path, "splits", presets.load("smoke"))
    assert not target.exists()


def test_pickle_in_the_place_of_a_checkpoint_is_not_unpickled(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target, content = tmp_path / "owned", io.BytesIO()
    torch.save({"key": "key", "epoch": 1, "state": Bomb(target)}, content)
    payload = content.getvalue()
    (tmp_path / "epoch-000001.pt").write_bytes(hashlib.sha256(payload).digest() + payload)
    assert Checkpoints(tmp_path, "key").latest(torch.device("cpu")) is None
    assert "is not used: Weights only load failed" in capsys.readouterr().err
    assert not target.exists()


@pytest.mark.parametrize("name", ["images.npy", "labels.npy"])
def test_pickle_in_the_place_of_an_array_is_not_unpickled(name: str, tmp_path: Path) -> None:
    target = tmp_path / "owned"
    description = {"classes": ["a", "b"], "folds": None, "duplicates": {}}
    for field in ("train_images", "test_images", "conflicting"):
        description["duplicates"][field] = 0
    (tmp_path / arrays.DESCRIPTION).write_text(yaml.safe_dump(description))
    np.save(tmp_path / arrays.IMAGES, np.zeros((1, 4, 4, 1), np.uint8))
    np.save(tmp_path / arrays.LABELS, np.zeros(1, np.int64))
    (tmp_path / name).write_bytes(pickle.dumps(Bomb(target)))
    with pytest.raises(InputError):
        arrays.read(tmp_path)
    np.save(tmp_path / name, np.array([Bomb(target)], dtype=object), allow_pickle=True)
    with pytest.raises(InputError):
        arrays.read(tmp_path)
    assert not target.exists()


def test_settings_make_no_objects(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "owned"
    call = f"model: !!python/object/apply:os.mkdir ['{target}']"
    params = smoke(tmp_path, "model: ca_cnn", call)
    assert main(["check", "--params", str(params)]) == 2
    assert "params.yaml" in capsys.readouterr().err
    assert not target.exists()


# --- archives stay in their folder, downloads within bounds ---------------------------------------


def archive(path: Path, members: list[tarfile.TarInfo]) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for member in members:
            member.size = 4 if member.isfile() else 0
            tar.addfile(member, io.BytesIO(b"evil"))
    return path


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type, made.linkname = kind, link
    return made


@pytest.mark.parametrize(
    "hostile",
    [
        member("../outside"),
        member("base/../../outside"),
        member("/tmp/regard-outside"),
        member("base", tarfile.SYMTYPE, "../.."),
        member("base/link", tarfile.LNKTYPE, "../outside"),
        member("base/pipe", tarfile.FIFOTYPE),
        member("base/device", tarfile.CHRTYPE),
    ],
    ids=lambda one: one.name,
)
def test_only_what_was_asked_for_leaves_an_archive(
    hostile: tarfile.TarInfo, tmp_path: Path
) -> None:
    path = archive(tmp_path / "archive.tgz", [hostile, member("base/wanted")])
    raw = tmp_path / "in" / "raw"
    raw.mkdir(parents=True)
    torchvision_sets._extract(path, ["base/wanted"], raw)
    assert (raw / "base" / "wanted").read_bytes() == b"evil"
    assert {str(found.relative_to(tmp_path)) for found in tmp_path.rglob("*")} == {
        *("archive.tgz", "in", "in/raw", "in/raw/base", "in/raw/base/wanted")
    }
    assert not Path("/tmp/regard-outside").exists()


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE]
)
def test_link_or_device_in_the_place_of_a_file_is_refused(kind: bytes, tmp_path: Path) -> None:
    path = archive(tmp_path / "archive.tgz", [member("base/wanted", kind, "/etc/passwd")])
    with pytest.raises(InputError, match="holds no base/wanted"):
        torchvision_sets._extract(path, ["base/wanted"], tmp_path)
    assert not (tmp_path / "base").exists()


Answer = Callable[[http.server.BaseHTTPRequestHandler], None]


@pytest.fixture
def answering(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Answer], str]]:
    """Start hosts that answer as asked; gives the address of a file there."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    running: list[tuple[http.server.HTTPServer, threading.Thread]] = []

    def start(answer: Answer) -> str:
        class Host(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                answer(self)

            def log_message(self, *_: object) -> None:
                pass

        host = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Host)
        thread = threading.Thread(target=host.serve_forever)
        thread.start()
        running.append((host, thread))
        return f"http://127.0.0.1:{host.server_port}/archive.tgz"

    yield start
    for host, thread in running:
        host.shutdown()
        thread.join()
        host.server_close()


@pytest.mark.parametrize("target", ["file:///etc/passwd", "ftp://127.0.0.1/x"])
def test_redirect_to_what_is_no_web_address_is_refused(
    target: str, answering: Callable[[Answer], str], tmp_path: Path
) -> None:
    def redirect(host: http.server.BaseHTTPRequestHandler) -> None:
        host.send_response(302)
        host.send_header("Location", target)
        host.end_headers()

    with pytest.raises(fetching.UnreachableError, match="InvalidSchema"):
        fetching.over_http(answering(redirect), f"md5:{'0' * 32}", tmp_path / "downloads")
    assert list(tmp_path.rglob("*.tgz")) == []


@pytest.mark.parametrize("announced", [True, False], ids=["size announced", "size not announced"])
def test_download_that_would_fill_the_disk_is_ended(
    announced: bool,
    answering: Callable[[Answer], str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(fetching, "MOST_BYTES", 1 << 20)
    sent = 0

    def flood(host: http.server.BaseHTTPRequestHandler) -> None:
        nonlocal sent
        host.send_response(200)
        if announced:
            host.send_header("Content-Length", str(1 << 40))
        host.end_headers()
        try:
            while sent < 1 << 28:
                sent += host.wfile.write(bytes(1 << 16))
        except OSError:
            pass  # the other end has hung up

    with pytest.raises(fetching.UnreachableError, match="sends more than 1 MB"):
        fetching.over_http(answering(flood), f"md5:{'0' * 32}", tmp_path / "downloads")
    assert sent < 1 << 28
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


# --- names are shown, not obeyed ------------------------------------------------------------------

HOSTILE = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "![a](javascript:alert(1))",
    "[a](https://example.org)",
    "a | b",
    "`a` *b* _c_ ~d~",
    "$x^2$",
    "</details>",
    "&lt;b&gt;",
    "a\\",
    "# a\n\n- b",
]


@pytest.mark.parametrize("name", HOSTILE)
def test_name_stands_in_a_table_of_markdown_as_it_is(name: str) -> None:
    text = markdown.table(f"| class | n |\n| {markdown.escape(name)} | 1 |\n| b | 2 |")
    tokens = MarkdownIt("commonmark").enable("table").parse(text)
    cells = [token.children for token in tokens if token.type == "inline"]
    assert len(cells) == 6
    kinds = {child.type for child in cells[2]}
    assert kinds <= {"text", "text_special"}
    assert "".join(child.content for child in cells[2]) == " ".join(name.split())


def test_control_characters_of_a_name_do_not_reach_a_reader() -> None:
    assert markdown.escape("a\x1b[31m\x07b\u202ec") == "a\N{REPLACEMENT CHARACTER}\\[31m" + (
        "\N{REPLACEMENT CHARACTER}b\N{REPLACEMENT CHARACTER}c"
    )


@pytest.mark.parametrize("name", ["=cmd|'/C calc'!A0", "+1+2", "-1+2", "@SUM(A1)"])
def test_name_is_no_formula_to_a_spreadsheet(name: str) -> None:
    table = pd.DataFrame({"class": [name, "cat"], "difference": [-1.5, 2.0]})
    read = pd.read_csv(io.StringIO(as_csv(table), newline=""))
    assert list(read["class"]) == [f"'{name}", "cat"]
    assert list(read["difference"]) == [-1.5, 2.0]


def test_control_characters_of_a_name_stay_out_of_tables() -> None:
    table = pd.DataFrame({"class": ["a\r\n\x1b[31m\t=1+2", "cat"], "difference": [-1.5, 2.0]})
    written = as_csv(table)
    assert written.replace("\n", "").isprintable()
    read = pd.read_csv(io.StringIO(written, newline=""))
    assert list(read["class"]) == [r"a\r\n\x1b[31m\t=1+2", "cat"]
