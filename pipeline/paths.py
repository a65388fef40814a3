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
DOWNLOADS = Path(".cache/downloads")
CHECKPOINTS = Path(".cache/checkpoints")
OUTPUTS = (RAW, SPLITS, TRAINED, EVALUATED, MEASURED, REPORTS)
