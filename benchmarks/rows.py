"""The rows that can be measured by name; each gives one line of the table or a few."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from benchmarks import engines, folders, gpu, processes, training
from benchmarks.line import Line, Mark

ROWS: dict[str, Callable[[], Iterator[Line]]] = {
    "ca_cnn_bf16": training.throughput("ca_cnn", "bf16", Mark("at least", 3, " times")),
    "ca_cnn_fp32": training.throughput("ca_cnn", "fp32", Mark("at least", 2, " times")),
    "se_densenet_bf16": training.throughput("se_densenet", "bf16", Mark("at least", 2.5, " times")),
    "augmentation": training.augmentation,
    "evaluation": training.evaluation,
    "image_folder": folders.image_folder,
    "stage": engines.stage,
    "nothing_to_do": engines.nothing_to_do,
    "starting": engines.starting,
    "compare": engines.compare,
    "default_run": engines.default_run,
    "memory": processes.memory,
    "side_by_side": processes.side_by_side,
    "gpu": gpu.gpu,
}
