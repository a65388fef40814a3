"""Where the pipeline reads and writes, relative to the project's root."""

from pathlib import Path

PARAMS = Path("params.yaml")
RAW = Path("data/raw")
SPLITS = Path("data/splits")
TRAINED = Path("data/trained")
EVALUATED = Path("data/evaluated")
MEASURED = Path("data/measured")
REPORTS = Path("reports")
PREDICTIONS = Path("predictions")
EXPLAINED = REPORTS / "figures" / "architectures"
COMPARISON_FIGURES = REPORTS / "figures" / "comparison"
COMPARISON_TABLE = REPORTS / "comparison.csv"
REPORT_PAGE = REPORTS / "report.html"
TABLES = REPORTS / "tables"
STARTS = Path("data/weights")  # of trainings: the libraries' own, and what a person puts there
DOWNLOADS = Path(".cache/downloads")
CHECKPOINTS = Path(".cache/checkpoints")  # and the history of a training that runs
CHANGE_MARKERS = Path(".cache/changes")
ENDED_MARKERS = Path(".cache/ended")
CORRUPT_LOCKS = Path(".cache/corrupt")
OUTPUTS = (RAW, SPLITS, TRAINED, EVALUATED, MEASURED, REPORTS)


def weights_file(model: str, seed: int, trained: Path = TRAINED) -> Path:
    """Return the file of one training's weights.

    Args:
        model: an architecture of params.yaml.
        seed: of the training.
        trained: the folder of all trainings.
    """
    return trained / model / str(seed) / "model.safetensors"
