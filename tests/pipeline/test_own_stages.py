"""What a person does to the graph and to the outputs with DVC's own commands, under Snakemake."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.projects import Project

pytestmark = pytest.mark.slow
Copy = Callable[[Project], Project]

OWN = """
  publish:
    cmd: cat reports/report.md photos/cat.txt > published.md
    deps: [reports/report.md, photos]
    outs: [published.md]
  tell:
    cmd: wc published.md
    deps: [published.md]
"""
IN_A_FOLDER = """\
stages:
  plot:
    cmd: cp ../reports/metrics.json plot.json
    deps: [../reports/metrics.json]
    outs: [plot.json]
"""


def test_stages_of_a_persons_own_run_after_ours_and_once(
    reproduced: Project, copy_of: Copy
) -> None:
    project = copy_of(reproduced)
    (project.root / "photos").mkdir()
    (project.root / "photos" / "cat.txt").write_text("a cat")
    project.dvc("add", "photos")
    described = project.root / "dvc.yaml"
    described.write_text(described.read_text().replace("\nplots:\n", f"{OWN}\nplots:\n"))
    (project.root / "more").mkdir()
    (project.root / "more" / "dvc.yaml").write_text(IN_A_FOLDER)

    project.snakemake()
    assert project.ran() == {"tell"}  # the only one that prints
    published = (project.root / "published.md").read_text()
    assert published == (project.root / "reports/report.md").read_text() + "a cat"
    assert project.hashes("more/plot.json").keys() == {"more/plot.json"}
    assert project.is_clean()
    assert project.plans_nothing()

    photo = project.root / "photos" / "cat.txt"
    photo.unlink()
    photo.write_text("another cat")
    project.dvc("add", "photos")
    project.snakemake()
    assert (project.root / "published.md").read_text().endswith("another cat")
    assert project.is_clean()
    assert project.plans_nothing()


def test_frozen_stage_is_named_and_not_planned(reproduced: Project, copy_of: Copy) -> None:
    project = copy_of(reproduced)
    project.dvc("freeze", "report")
    project.edit("  margin: 0.5 ", "  margin: 0.7 ")
    planned = project.snakemake("--dry-run")
    assert "Nothing to be done" in planned.stdout
    said = "report is frozen: it stays as it is until dvc unfreeze report"
    assert said in planned.stderr
    for command in ("check", "summary"):
        assert said in project.run("python", "-m", "pipeline", command).stderr
    project.dvc("unfreeze", "report")
    assert "rule report:" in project.snakemake("--dry-run").stdout


def test_link_to_nothing_among_the_outputs_is_named_with_what_to_do(
    reproduced: Project, copy_of: Copy
) -> None:
    """As a shared cache of symlinks leaves them whose disk is away or whose files were removed."""
    project = copy_of(reproduced)
    project.dvc("config", "--local", "cache.type", "symlink")
    project.dvc("checkout", "--relink")
    cache = project.root / ".dvc" / "cache"
    away = project.root / "away"
    cache.rename(away)
    done = project.snakemake(expect=1)
    assert "Traceback" not in done.stderr
    (line,) = [line for line in done.stderr.splitlines() if "links to nothing" in line]
    assert "data/" in line
    assert str(cache) in line
    away.rename(cache)
    project.snakemake()
    assert project.ran() == set()

    report = project.root / "reports" / "report.md"  # an output that is a link itself
    report.readlink().unlink()
    done = project.snakemake(expect=1)
    assert "reports/report.md links to nothing" in done.stderr
    report.unlink()
    project.snakemake()
    assert report.read_text()
    assert project.is_clean()
