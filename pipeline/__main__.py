"""The command line: ``python -m pipeline COMMAND``. Every stage of dvc.yaml is one command."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline import data_path
from pipeline.errors import InputError, StageError, choose
from pipeline.params import Settings, check_loss, load

if TYPE_CHECKING:
    from collections.abc import Sequence

app = typer.Typer(
    help="Does attention pay in image classifiers, and what does it cost?",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


ParamsFile = Annotated[Path, typer.Option("--params", help="The settings file.")]
Raw = Annotated[Path, typer.Option(help="The folder of the source's own files.")]
Splits = Annotated[Path, typer.Option(help="The folder of arrays that the split stage wrote.")]
Model = Annotated[str, typer.Option(help="An architecture of params.yaml.")]
Seed = Annotated[int, typer.Option(min=0, help="The seed of the training run.")]

PARAMS = Path("params.yaml")
RAW = Path("data/raw")
SPLITS = Path("data/splits")
TRAINED = Path("data/trained")
EVALUATED = Path("data/evaluated")
REPORTS = Path("reports")
ARCHITECTURE_FIGURES = Path("figures/architectures")
DOWNLOADS = Path(".cache/downloads")
CHECKPOINTS = Path(".cache/checkpoints")
OUTPUTS = (RAW, SPLITS, TRAINED, EVALUATED, REPORTS)


@app.command()
def download(
    params: ParamsFile = PARAMS,
    out: Annotated[Path, typer.Option(help="The folder to write.")] = RAW,
    downloads: Annotated[Path, typer.Option(help="Where downloads wait.")] = DOWNLOADS,
) -> None:
    """Get the source's own files, checksummed."""
    settings = load(params)
    from pipeline.stages import download as stage

    stage.run(settings.data, out, downloads)


@app.command()
def split(
    params: ParamsFile = PARAMS,
    raw: Raw = RAW,
    out: Annotated[Path, typer.Option(help="The folder to write.")] = SPLITS,
) -> None:
    """Decode the images and divide them into training, validation and test."""
    settings = load(params)
    from pipeline.stages import split as stage

    stage.run(settings.data, settings.split, raw, out)


@app.command()
def train(
    model: Model,
    seed: Seed,
    params: ParamsFile = PARAMS,
    splits: Splits = SPLITS,
    out: Annotated[
        Path | None, typer.Option(help="The folder to write; data/trained/MODEL/SEED if not given.")
    ] = None,
    checkpoints: Annotated[
        Path, typer.Option(help="Where an unfinished training is kept, to go on from.")
    ] = CHECKPOINTS,
) -> None:
    """Train one architecture with one seed; after an interruption, go on with it."""
    settings = _settings_for(model, params)
    from pipeline.stages import train as stage

    stage.run(settings, model, seed, splits, out or TRAINED / model / str(seed), checkpoints)


@app.command()
def evaluate(
    model: Model,
    seed: Seed,
    params: ParamsFile = PARAMS,
    splits: Splits = SPLITS,
    weights: Annotated[
        Path | None,
        typer.Option(help="data/trained/MODEL/SEED/model.safetensors if not given."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="The folder to write; data/evaluated/MODEL/SEED if not given."),
    ] = None,
) -> None:
    """Measure one trained network on the test split."""
    settings = _settings_for(model, params)
    run = Path(model) / str(seed)
    from pipeline.stages import evaluate as stage

    stage.run(
        settings,
        model,
        seed,
        weights or TRAINED / run / "model.safetensors",
        splits,
        out or EVALUATED / run,
    )


@app.command()
def explain(
    model: Model,
    params: ParamsFile = PARAMS,
    splits: Splits = SPLITS,
    weights: Annotated[
        Path | None,
        typer.Option(help="Of the first seed's run if not given."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="The folder to write; reports/figures/architectures/MODEL if not given."),
    ] = None,
) -> None:
    """Draw feature maps, heatmaps and attention weights of one architecture."""
    settings = _settings_for(model, params)
    run = Path(model) / str(settings.seeds[0])
    from pipeline.stages import explain as stage

    stage.run(
        settings,
        model,
        weights or TRAINED / run / "model.safetensors",
        splits,
        out or REPORTS / ARCHITECTURE_FIGURES / model,
    )


@app.command()
def report(
    params: ParamsFile = PARAMS,
    splits: Splits = SPLITS,
    trained: Annotated[Path, typer.Option(help="The folder of all trainings.")] = TRAINED,
    evaluated: Annotated[Path, typer.Option(help="The folder of all evaluations.")] = EVALUATED,
    out: Annotated[Path, typer.Option(help="The folder to write.")] = REPORTS,
) -> None:
    """Compare the architectures and write the report."""
    settings = load(params)
    from pipeline.stages import report as stage

    stage.run(settings, splits, trained, evaluated, out / ARCHITECTURE_FIGURES, out, params)


@app.command()
def check(params: ParamsFile = PARAMS) -> None:
    """Tell whether the settings are right, before anything runs."""
    settings = load(params)
    check_loss(settings)
    data_path.check(settings, Path(), OUTPUTS)
    runs = len(settings.architectures) * len(settings.seeds)
    typer.echo(
        f"{params} is right: {', '.join(settings.architectures)}; {len(settings.seeds)} seeds, "
        f"{runs} training runs of {settings.train.epochs} epochs on {settings.data.name}; "
        f"candidate {settings.model}"
    )


@app.command()
def preset(
    name: Annotated[str | None, typer.Argument(help="Leave it out to list them.")] = None,
    params: ParamsFile = PARAMS,
) -> None:
    """Replace params.yaml by a ready-made alternative."""
    from pipeline import presets

    if name is None:
        for known, summary in presets.available().items():
            typer.echo(f"{known:<14}{summary}")
        return
    for line in presets.apply(name, params):
        typer.echo(line)


@app.command()
def models(
    params: ParamsFile = PARAMS,
    splits: Splits = SPLITS,
) -> None:
    """List the architectures of params.yaml with their parameters and multiply-accumulates."""
    settings = load(params)
    from pipeline.reporting.architectures import print_architectures

    print_architectures(settings, splits)


@app.command()
def prune(
    params: ParamsFile = PARAMS,
    yes: Annotated[bool, typer.Option("--yes", help="Remove them without asking.")] = False,
) -> None:
    """Remove the outputs of runs that params.yaml no longer lists, and unfinished trainings."""
    settings = load(params)
    import shutil

    from pipeline import leftovers

    found = leftovers.find(settings, TRAINED, EVALUATED, REPORTS / ARCHITECTURE_FIGURES)
    begun = leftovers.unfinished(CHECKPOINTS)
    if not found and not begun:
        typer.echo("nothing is left over")
        return
    for folder in found:
        typer.echo(f"{folder}: comes back from DVC's cache if an engine made it")
    for folder in begun:
        typer.echo(f"{folder}: a training that was not finished; it would begin anew")
    found += begun
    if yes or typer.confirm("Remove these?"):
        for folder in found:
            shutil.rmtree(folder)


@app.command()
def summary(
    reports: Annotated[Path, typer.Option(help="The folder of the report.")] = REPORTS,
) -> None:
    """Print the comparison of the last run and where its report is."""
    from pipeline.reporting import terminal

    terminal.print_summary(reports)


def _settings_for(model: str, params: Path) -> Settings:
    settings = load(params)
    choose(model, settings.architectures, "--model")
    return settings


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line and return its exit code: 0 done, 1 it failed, 2 the input was wrong."""
    try:
        app(args=arguments, standalone_mode=True)
    except (InputError, StageError) as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        print(f"error: {where}{error.strerror or error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
