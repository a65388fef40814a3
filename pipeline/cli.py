"""The command line: ``python -m pipeline COMMAND``. Every stage of dvc.yaml is one command."""

from __future__ import annotations

import shutil
import sys
from functools import partial
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from pipeline.commands.several_values import SeveralValues
from pipeline.engines import false_records, preflight
from pipeline.engines.dvc_graph import frozen
from pipeline.engines.unchanged import made_from, unchanged, write_origin
from pipeline.paths import (
    CHECKPOINTS,
    DOWNLOADS,
    EVALUATED,
    EXPLAINED,
    MEASURED,
    OUTPUTS,
    PARAMS,
    PREDICTIONS,
    RAW,
    REPORTS,
    SPLITS,
    STARTS,
    TRAINED,
    weights_file,
)
from pipeline.settings import pairs, presets
from pipeline.settings.load import check_loss, load
from pipeline.settings.schema import Settings
from pipeline.stages import stale_outputs
from pipeline.storage.running import FINISHED
from pipeline.system.errors import InputError, StageError, choose, format_os_error
from pipeline.system.progress import say
from pipeline.system.text import plural, printable
from pipeline.training import finished_checkpoints
from pipeline.training.start_files import check_files

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

app = typer.Typer(
    help="Does attention pay in image classifiers, and what does it cost?",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

# every command imports what it runs when the settings are right: `--help` and `check` stay quick
ParamsFile = Annotated[Path, typer.Option("--params", help="The settings file.")]
Raw = Annotated[Path, typer.Option(help="The folder of the source's own files.")]
Splits = Annotated[Path, typer.Option(help="The folder of arrays that the split stage wrote.")]
Model = Annotated[str, typer.Option(help="An architecture of params.yaml.")]
OptionalModel = Annotated[
    str | None,
    typer.Option(
        help="An architecture of params.yaml; the candidate (model in params.yaml) if not given."
    ),
]
Seed = Annotated[int, typer.Option(min=0, help="The seed of the training run.")]
Out = Annotated[Path, typer.Option(help="The folder to write.")]
Trained = Annotated[Path, typer.Option(help="The folder of all trainings.")]


@app.command()
def download(
    params: ParamsFile = PARAMS,
    out: Out = RAW,
    downloads: Annotated[Path, typer.Option(help="Where downloads wait.")] = DOWNLOADS,
) -> None:
    """Get the source's own files, checksummed."""
    settings = load(params)
    with unchanged("download", params, settings):
        from pipeline.stages import download as stage

        own_files = stage.run(settings.data, out, downloads)
        write_origin(out, made_from("download", settings), own_files)


@app.command()
def split(params: ParamsFile = PARAMS, raw: Raw = RAW, out: Out = SPLITS) -> None:
    """Decode the images and divide them into training, validation and test."""
    settings = load(params)
    with unchanged("split", params, settings, [raw]):
        from pipeline.stages import split as stage

        stage.run(settings.data, settings.split, raw, out)
        write_origin(out, made_from("split", settings, inputs=[raw / "source.json"]))


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
        Path, typer.Option(help="Where an unfinished training is kept, to resume from.")
    ] = CHECKPOINTS,
) -> None:
    """Train one architecture with one seed; after an interruption, resume it."""
    # what was there is the pipeline's own, which resumes from it
    keep = out is not None and any(checkpoints.glob(f"{model}-{seed}-*"))
    _train(model, seed, params, splits, out, checkpoints)
    if not keep:
        finished_checkpoints.remove_finished(checkpoints, f"{model}-{seed}")


@app.command()
def evaluate(
    model: Model,
    seed: Seed,
    params: ParamsFile = PARAMS,
    splits: Splits = SPLITS,
    weights: Annotated[
        Path | None, typer.Option(help="data/trained/MODEL/SEED/model.safetensors if not given.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="The folder to write; data/evaluated/MODEL/SEED if not given."),
    ] = None,
) -> None:
    """Measure one trained network on the test split."""
    settings, _ = _resolve(params, model)
    weights = weights or weights_file(model, seed)
    with unchanged("evaluate", params, settings, [splits, weights], model):
        from pipeline.stages import evaluate as stage

        stage.run(settings, model, seed, weights, splits, out or EVALUATED / model / str(seed))


@app.command()
def measure(params: ParamsFile = PARAMS, splits: Splits = SPLITS, out: Out = MEASURED) -> None:
    """Measure how fast all architectures are, in turns; nothing else should run meanwhile."""
    settings = load(params)
    with unchanged("measure", params, settings, [splits]):
        from pipeline.stages import measure as stage

        stage.run(settings, splits, out)


@app.command()
def explain(
    model: Model,
    params: ParamsFile = PARAMS,
    splits: Splits = SPLITS,
    weights: Annotated[
        Path | None, typer.Option(help="Of the first seed's run if not given.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="The folder to write; reports/figures/architectures/MODEL if not given."),
    ] = None,
) -> None:
    """Draw feature maps, heatmaps and attention weights of one architecture."""
    settings, _ = _resolve(params, model)
    weights = weights or weights_file(model, settings.seeds[0])
    with unchanged("explain", params, settings, [splits, weights], model):
        from pipeline.stages import explain as stage

        stage.run(settings, model, weights, splits, out or EXPLAINED / model)


@app.command()
def report(
    params: ParamsFile = PARAMS,
    splits: Splits = SPLITS,
    trained: Trained = TRAINED,
    evaluated: Annotated[Path, typer.Option(help="The folder of all evaluations.")] = EVALUATED,
    measured: Annotated[Path, typer.Option(help="The folder of the timings.")] = MEASURED,
    figures: Annotated[Path, typer.Option(help="The folder of all explanations.")] = EXPLAINED,
    out: Out = REPORTS,
) -> None:
    """Compare the architectures and write the report."""
    settings = load(params)
    stages = false_records.read_lock()
    stages.pop("report", None)
    false_records.forget_and_refuse(stages, params)
    with unchanged("report", params, settings, [splits, trained, evaluated, measured, figures]):
        from pipeline.stages import report as stage

        stage.run(settings, splits, trained, evaluated, measured, figures, out, params)


@app.command()
def stage(
    name: Annotated[
        str, typer.Argument(metavar="STAGE", help="As dvc status names it, such as train@cnn-0.")
    ],
    params: ParamsFile = PARAMS,
) -> None:
    """Train, evaluate or explain as the stage of dvc.yaml with this name does."""
    settings = load(params)
    stages: dict[str, Callable[[], None]] = {}
    for model in settings.architectures:
        stages[f"explain@{model}"] = partial(explain, model, params)
    for model, seed in product(settings.architectures, settings.seeds):
        stages[f"train@{model}-{seed}"] = partial(_train, model, seed, params)
        stages[f"evaluate@{model}-{seed}"] = partial(evaluate, model, seed, params)
    plain = name.rpartition(":")[2]  # DVC puts the path of dvc.yaml before it in other folders
    stages[choose(plain, stages, "STAGE")]()
    kind, _, run = plain.partition("@")
    if kind == "evaluate":
        # DVC deletes an output that it hasn't noted before it makes it again: a kill between the
        # end of a training and DVC's note would lose it. When DVC begins with the evaluation, it
        # has noted it.
        finished_checkpoints.remove_finished(CHECKPOINTS, run)


def _train(
    model: str,
    seed: int,
    params: Path,
    splits: Path = SPLITS,
    out: Path | None = None,
    checkpoints: Path = CHECKPOINTS,
) -> None:
    settings, _ = _resolve(params, model)
    out = out or TRAINED / model / str(seed)
    with unchanged("train", params, settings, [splits], model) as given:
        from pipeline.stages import train as stage

        stage.run(settings, model, seed, splits, STARTS, out, checkpoints, given.check)


@app.command()
def predict(
    images: Annotated[
        list[Path], typer.Argument(metavar="IMAGE", help="Image files, and folders of them.")
    ],
    model: OptionalModel = None,
    params: ParamsFile = PARAMS,
    splits: Splits = SPLITS,
    trained: Trained = TRAINED,
    out: Annotated[Path, typer.Option(help="The folder for a figure of each image.")] = PREDICTIONS,
    top: Annotated[int, typer.Option(min=1, help="How many classes to print for each image.")] = 5,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON instead of a table, and nothing else.")
    ] = False,
) -> None:
    """Ask trained networks, all seeds together, what images show.

    Each image gets one of the classes, also one that shows none of them: a classifier always
    answers. Images are decoded as those that the networks were trained on: resized to the same
    square, whatever their proportions, and made grey for grey data sets.
    """
    settings, model = _resolve(params, model)
    from pipeline.commands import predict as command
    from pipeline.commands import prediction_answers as printed

    answers = command.run(settings, model, images, splits, trained / model, out, top)
    if as_json:
        typer.echo(printed.answers_json(answers))
    else:
        printed.print_answers(answers, model)
    if any(isinstance(answer, printed.Failure) for answer in answers):
        raise typer.Exit(1)


@app.command()
def export(
    file_format: Annotated[
        Literal["onnx", "pt2"],
        typer.Option(
            "--format", help="onnx runs nearly everywhere; pt2, of torch.export, where PyTorch is."
        ),
    ],
    model: OptionalModel = None,
    seed: Annotated[
        int | None, typer.Option(min=0, help="The seed of the run; the first if not given.")
    ] = None,
    params: ParamsFile = PARAMS,
    splits: Splits = SPLITS,
    trained: Trained = TRAINED,
    out: Annotated[
        Path | None,
        typer.Option(
            help="The file to write, in exports/ if not given; a file that is there is replaced."
        ),
    ] = None,
) -> None:
    """Write a trained network as ONNX or as a program of torch.export, and check it.

    The file needs nothing of this project. It takes images in [0, 1] of shape (batch, channels,
    height, width) and gives logits; the normalisation is inside. What it gives for test images is
    compared with what the network gives here.
    """
    settings, model = _resolve(params, model)
    seed = settings.seeds[0] if seed is None else seed
    from pipeline.commands import export as command

    weights = weights_file(model, seed, trained)
    done = command.run(settings, model, seed, splits, weights, file_format, out)
    typer.echo(
        f"{done.path}: on {done.images} test images its logits differ from the original's by "
        f"{done.difference:.1g} at most (largest logit {done.largest:.1f}, allowed "
        f"{done.allowed:.1g})"
    )


@app.command()
def check(params: ParamsFile = PARAMS) -> None:
    """Check the settings before anything runs."""
    settings = load(params)
    check_loss(settings)
    check_files(settings)
    preflight.check(settings, Path(), OUTPUTS)
    if settings.data.name == "image_folder":
        from pipeline.data.sources.listing import find

        find(Path(settings.data.path), settings.data.labels)
    try:
        stages = false_records.read_lock()
    except InputError as error:  # `make` runs Snakemake next, which repairs it
        say(f"warning: {error}")
        stages = {}
    if found := false_records.find(stages, params):
        false_records.forget(found)
    for line in (*frozen(), *false_records.cures(found)):
        say(line)
    runs = len(settings.architectures) * len(settings.seeds)
    typer.echo(
        f"{params} is right: {', '.join(settings.architectures)}; "
        f"{plural(len(settings.seeds), 'seed')}, {plural(runs, 'training run')} of "
        f"{plural(settings.train.epochs, 'epoch')} on {settings.data.name}; "
        f"candidate {settings.model}"
    )
    for warning in pairs.warnings(settings):
        say(f"warning: {warning}")


@app.command()
def preset(
    name: Annotated[str | None, typer.Argument(help="Leave it out to list them.")] = None,
    params: ParamsFile = PARAMS,
) -> None:
    """Replace params.yaml by a ready-made alternative."""
    if name is None:
        for known, summary in presets.available().items():
            typer.echo(f"{known:<14}{summary}")
        return
    for line in presets.apply(name, params):
        typer.echo(line)


@app.command()
def models(params: ParamsFile = PARAMS, splits: Splits = SPLITS) -> None:
    """List the architectures of params.yaml with their parameters and multiply-accumulates."""
    settings = load(params)
    from pipeline.commands.models import print_architectures

    print_architectures(settings, splits)
    for warning in pairs.warnings(settings):
        say(f"warning: {warning}")


@app.command()
def rival(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="An architecture that names a baseline.")
    ],
    match: Annotated[
        Literal["latency", "macs", "parameters"], typer.Option(help="The cost to be equal.")
    ] = "latency",
    params: ParamsFile = PARAMS,
    splits: Splits = SPLITS,
) -> None:
    """Add to params.yaml the model's baseline, widened until it costs as much as the model."""
    settings = load(params)
    from pipeline.commands import rival as command

    for line in command.add(settings, model, match, params, splits):
        typer.echo(line)


@app.command(cls=SeveralValues)
def compare(
    revisions: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="REV_A REV_B",
            help="Two git revisions or DVC experiments, the baseline first; without files.",
        ),
    ] = None,
    candidate: Annotated[
        list[Path] | None,
        typer.Option(
            help="A .npy file for each seed: classes (N,), probabilities or logits (N, K)."
        ),
    ] = None,
    baseline: Annotated[list[Path] | None, typer.Option(help="The same of the baseline.")] = None,
    labels: Annotated[
        Path | None, typer.Option(help="A .npy file: the true classes (N,), from 0.")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            help="The architecture of both revisions; the candidate of each if not given."
        ),
    ] = None,
    margin: Annotated[
        float, typer.Option(help="The smallest gain worth its price, percentage points.")
    ] = 0.5,
    balanced: Annotated[
        bool, typer.Option(help="Judge by balanced accuracy: every class counts the same.")
    ] = False,
    confidence: Annotated[
        float,
        typer.Option(min=0.5, max=0.9999, help="Of the interval; a report's of several pairs."),
    ] = 0.95,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON instead of text, and nothing else.")
    ] = False,
) -> None:
    """Compare anybody's predictions, or two revisions of this project, over seeds and images.

    Several values may follow one option: --candidate a0.npy a1.npy. The order of the files pairs
    them, and all are of the same test images in the same order.
    """
    from pipeline.commands import compare as command
    from pipeline.statistics.criteria import Criteria

    criteria = Criteria(confidence, margin, "balanced_accuracy" if balanced else "accuracy")
    if revisions:
        if candidate or baseline or labels:
            raise InputError("compare: give two revisions or files, not both")
        if len(revisions) != 2:
            raise InputError(
                f"compare: {plural(len(revisions), 'revision')}; give two, REV_A REV_B"
            )
        older, newer = revisions
        found = command.compare_revisions(Path(), older, newer, model, criteria)
    elif candidate and baseline and labels:
        if model is not None:
            raise InputError("--model: names an architecture of two revisions; files have none")
        found = command.compare_files(candidate, baseline, labels, criteria)
    else:
        raise InputError("compare: give --candidate, --baseline and --labels, or two revisions")
    typer.echo(command.as_json(found) if as_json else command.as_text(found))


@app.command()
def watch(
    checkpoints: Annotated[
        Path, typer.Option(help="The folder of the checkpoints of all trainings.")
    ] = CHECKPOINTS,
) -> None:
    """Show the learning curves of the trainings that run, here or on a cluster."""
    from pipeline.commands.watch import watch

    watch(checkpoints)


@app.command()
def prune(
    params: ParamsFile = PARAMS,
    yes: Annotated[bool, typer.Option("--yes", help="Remove them without asking.")] = False,
) -> None:
    """Remove the outputs of runs that params.yaml no longer lists, and useless checkpoints."""
    settings = load(params)
    found = stale_outputs.find(settings, TRAINED, EVALUATED, EXPLAINED)
    listed = {f"{model}-{seed}" for model, seed in product(settings.architectures, settings.seeds)}
    checkpoints = {
        folder: use
        for folder, use in finished_checkpoints.list_checkpoints(CHECKPOINTS).items()
        # an unfinished training that is listed resumes from there, or runs now
        if (folder / FINISHED).exists() or folder.name.rpartition("-")[0] not in listed
    }
    if not found and not checkpoints:
        typer.echo("nothing to prune")
        return
    for folder in found:
        typer.echo(f"{folder}: comes back from DVC's cache if an engine made it")
    for folder, use in checkpoints.items():
        typer.echo(f"{folder}: {use}")
    if yes or typer.confirm("Remove these?"):
        for folder in (*found, *checkpoints):
            shutil.rmtree(folder)


@app.command()
def summary(
    reports: Annotated[Path, typer.Option(help="The folder of the report.")] = REPORTS,
) -> None:
    """Print the comparison of the last run and where its report is."""
    from pipeline.report import terminal

    false_records.forget_and_refuse(false_records.read_lock())
    for line in frozen():
        say(line)
    terminal.print_summary(reports)


def _resolve(params: Path, model: str | None) -> tuple[Settings, str]:
    """Return the settings and the architecture to use: the candidate if none is named."""
    settings = load(params)
    if model is None:
        return settings, settings.model
    return settings, choose(model, settings.architectures, "--model")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line and return its exit code: 0 done, 1 it failed, 2 the input was wrong."""
    try:
        app(args=arguments, standalone_mode=True)
    except (InputError, StageError) as error:
        print(f"error: {printable(str(error))}", file=sys.stderr)
        return error.exit_code
    except OSError as error:
        print(f"error: {printable(format_os_error(error))}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    return 0
