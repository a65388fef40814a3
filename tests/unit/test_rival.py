"""The equal-cost rival, through the command line; costs are counted by PyTorch's own counter."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from pipeline.models.registry import build
from pipeline.settings.load import load
from pipeline.settings.yaml_file import read
from tests.unit.test_command_line import ROOT, refused, run

ATTENTIVE = """\
  self_attention_cnn: {<<: *cnn, attention: self_attention, baseline: cnn}  # by hand
"""
PARAMS = (ROOT / "params.yaml").read_text()
VARIANT = "  # self_attention_cnn: {<<: *cnn, attention: self_attention, baseline: cnn}\n"


@pytest.fixture
def params(tmp_path: Path) -> Path:
    """The default settings, with self-attention switched on, which costs more than a few %."""
    assert VARIANT in PARAMS
    path = tmp_path / "params.yaml"
    path.write_text(PARAMS.replace(VARIANT, ATTENTIVE))
    (tmp_path / "data/local").mkdir(parents=True)
    return path


def macs(settings: dict[str, Any]) -> int:
    """PyTorch's count of the convolutions and linear layers, without attention's own products."""
    with FlopCounterMode(display=False) as counter:
        build(settings, 10, 16, 1)(torch.zeros(2, 1, 16, 16))  # a batch: of one, norms refuse
    operations = counter.get_flop_counts()["Global"]
    aten = torch.ops.aten
    return sum(operations.get(name, 0) for name in (aten.convolution, aten.mm, aten.addmm)) // 4


def parameters(settings: dict[str, Any]) -> int:
    return sum(len(parameter.flatten()) for parameter in build(settings, 10, 16, 1).parameters())


def rival_of(params: Path, model: str, match: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Run the command; return the settings of the model and of its new baseline."""
    before = params.read_text()
    done = run("rival", model, "--match", match, cwd=params.parent)
    assert done.returncode == 0, done.stderr
    name = re.findall(r"added (\w+)", done.stdout)[0]
    assert done.stdout.splitlines()[-1] == "next: snakemake --cores 4"
    assert run("check", cwd=params.parent).returncode == 0
    after = params.read_text()
    # all comments are there, and all lines but the one that names the baselines
    missing = Counter(before.splitlines()) - Counter(after.splitlines())
    assert missing.total() == 1
    assert after.count("#") == before.count("#") + 1
    architectures = read(params)["architectures"]
    given = read_before(before, params)["architectures"]
    assert {key: architectures[key] for key in given if key != model} == {
        key: given[key] for key in given if key != model
    }
    named = given[model]["baseline"]
    expected = [*([named] if isinstance(named, str) else named), name]
    assert architectures[model] == given[model] | {"baseline": expected}
    return architectures[model], architectures[name]


def read_before(text: str, params: Path) -> dict[str, Any]:
    path = params.with_name("before.yaml")
    path.write_text(text)
    return read(path)


@pytest.mark.parametrize(("match", "count"), [("macs", macs), ("parameters", parameters)])
def test_rival_costs_the_same_by_pytorchs_count(params: Path, match: str, count: Any) -> None:
    model, rival = rival_of(params, "self_attention_cnn", match)
    cnn = read(params)["architectures"]["cnn"]
    assert count(cnn) < 0.95 * count(model)
    assert count(rival) == pytest.approx(count(model), rel=0.05)
    assert {key for key in rival if rival[key] != cnn.get(key)} <= {"channels", "hidden"}
    assert all(width % 8 == 0 for width in rival["channels"])


@pytest.mark.parametrize("match", ["macs", "parameters"])
def test_densenet_is_widened_to_what_its_norms_and_heads_allow(params: Path, match: str) -> None:
    text = params.read_text().replace(
        "    attention: channel\n    baseline: densenet\n",
        "    attention: self_attention\n    baseline: densenet\n",
    )
    text = text.replace("growth_rate: 12 ", "growth_rate: 24 ")
    batch, group = (
        f"    normalisation: {kind}\n    norm_groups: 3 " for kind in ("batch", "group")
    )
    assert batch in text
    text = text.replace(batch, group)
    params.write_text(text)
    model, rival = rival_of(params, "se_densenet", match)
    count = {"macs": macs, "parameters": parameters}[match]
    assert rival["normalisation"] == "group"
    assert count(rival) == pytest.approx(count(model), rel=0.05)
    load(params)  # norm_groups divides all widths


def test_rival_by_latency_says_how_near_it_is_or_adds_nothing(params: Path) -> None:
    before = params.read_text()
    done = run("rival", "self_attention_cnn", cwd=params.parent)
    said = re.search(r"(\d\.\d\d) times \(.* in 9 rounds\)", done.stdout + done.stderr)
    assert said is not None
    assert run("check", cwd=params.parent).returncode == 0
    if done.returncode == 0 and "nothing to add" not in done.stdout:
        assert abs(float(said[1]) - 1) <= 0.055  # 0.05, rounded
        assert "wider_cnn" in read(params)["architectures"]
    else:  # on a machine so busy that nothing is certain
        assert params.read_text() == before


@pytest.mark.parametrize("match", ["macs", "parameters"])
def test_nothing_is_added_where_the_baseline_costs_as_much(params: Path, match: str) -> None:
    before = params.read_text()
    done = run("rival", "ca_cnn", "--match", match, cwd=params.parent)
    assert done.returncode == 0
    assert re.fullmatch(r"cnn has 0\.99\d times the \w+ of ca_cnn: nothing to add\n", done.stdout)
    assert params.read_text() == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["cnn"], "architectures.cnn: has no baseline"),
        (["ca_cn"], "MODEL: 'ca_cn' is not one of cnn, static_cnn, ca_cnn"),
        (["mixer"], "architectures.resnet: torchvision networks have no setting of their width"),
        (["se_densenet"], "architectures.wider_densenet: is there already"),
    ],
)
def test_what_can_have_no_rival_is_refused(
    params: Path, arguments: list[str], message: str
) -> None:
    more = """\
  wider_densenet: {<<: *densenet, growth_rate: 16}
  resnet: {family: torchvision, name: resnet18, small_inputs: true}
  mixer: {<<: *cnn, baseline: resnet}
"""
    params.write_text(params.read_text().replace(ATTENTIVE, ATTENTIVE + more))
    assert message in refused(params.parent, "rival", *arguments)


@pytest.mark.parametrize(
    "layout",
    [
        "  far: {<<: *cnn, attention: self_attention, baseline: [cnn]}\n",
        "  far:   # so\n    <<: *cnn\n    baseline: 'cnn' # which\n    attention: self_attention",
        "  far:\n    baseline: [cnn, static_cnn]\n    <<: *cnn\n    attention: self_attention",
    ],
)
def test_any_layout_of_an_entry_is_kept(params: Path, layout: str) -> None:
    text = params.read_text()
    entries, rest = text.split("  # Variants", 1)
    params.write_text(entries + layout.rstrip("\n") + "\n  # Variants" + rest)
    model, rival = rival_of(params, "far", "macs")
    assert macs(rival) == pytest.approx(macs(model), rel=0.05)


def test_layout_that_a_program_can_not_change_is_refused_with_what_to_write(params: Path) -> None:
    inherited = """\
  near: &near
    <<: *cnn
    attention: self_attention
    baseline: cnn
  far:
    <<: *near
    reduction: 8
"""
    params.write_text(params.read_text().replace(ATTENTIVE, inherited))
    said = refused(params.parent, "rival", "far", "--match", "macs")
    assert "add wider_cnn by hand, cnn with channels: [" in said
    assert "baseline: [cnn, wider_cnn]" in said


def test_rival_of_an_entry_without_an_anchor_has_all_its_settings(params: Path) -> None:
    text = params.read_text().replace("densenet: &densenet", "densenet:")
    start = text.index("  se_densenet:")
    end = text.index("  # Variants")
    settings = read(params)["architectures"]["densenet"] | {"attention": "self_attention"}
    lines = [f"    {key}: {json.dumps(value)}\n" for key, value in settings.items()]
    entry = "  se_densenet:\n" + "".join(lines) + "    baseline: densenet\n"
    params.write_text(text[:start] + entry + text[end:])
    _, rival = rival_of(params, "se_densenet", "parameters")
    densenet = read(params)["architectures"]["densenet"]
    assert rival["baseline"] is None
    assert set(rival) == {*densenet, "baseline"}
