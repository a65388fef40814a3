"""What a run of Snakemake shows: a line for each stage that ends, and what runs now.

On a terminal what runs now is shown live; in a log it is a line for each training from time to
time. Snakemake's own words, a dozen lines for each job, are in its log, ``.snakemake/log``. Who
asks for them, with ``--verbose`` or the like, gets them in place of this.

Written against Snakemake 9.27. What no manual promises, each with a test of its own in
tests/unit/test_display.py: `logger_manager` and `output_settings` of the workflow, the name of its
stream handler, and the fields of its events.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from snakemake_interface_logger_plugins.common import LogEvent

from pipeline.engines.remaining import UnderWay, remaining
from pipeline.engines.run_stage import last_line
from pipeline.paths import CHECKPOINTS
from pipeline.storage import running
from pipeline.system.formats import duration
from pipeline.system.progress import say

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.live import Live
    from snakemake.workflow import Workflow

    from pipeline.engines.snakemake import StageRule

SECONDS_BETWEEN_LINES = 300.0  # of the trainings that run, in a log
REFRESHES = 1  # a second, on a terminal


def show(workflow: Workflow, rules: Iterable[StageRule]) -> None:
    """Put the display in the place of Snakemake's own output, unless that was asked for."""
    settings = workflow.output_settings
    asked_for = (
        *(settings.dryrun, settings.quiet, settings.verbose, settings.printshellcmds),
        *(settings.debug_dag, settings.show_failed_logs, settings.stdout),
    )
    logger = workflow.logger_manager.logger
    streams = [handler for handler in logger.handlers if handler.name == "DefaultStreamHandler"]
    if not workflow.is_main_process or any(asked_for) or not streams:
        return
    logger.removeHandler(streams[0])
    logger.addHandler(Display(workflow, rules))


class Display(logging.Handler):
    """Shows what the events of Snakemake's log say.

    Args:
        workflow: Snakemake's.
        rules: one for each stage.
    """

    def __init__(self, workflow: Workflow, rules: Iterable[StageRule]) -> None:
        super().__init__()
        self._workflow = workflow
        self._stages = {rule.name: rule.address.removeprefix("dvc.yaml:") for rule in rules}
        self._started: dict[int, tuple[str, float]] = {}  # by job: its rule, when it was started
        self._waiting: list[str] = []  # stages, as are the next two
        self._took: dict[str, float] = {}  # seconds
        self._failures: set[str] = set()
        self._total = self._ended = 0
        self._began = 0.0
        self._live: Live | None = None
        self._over = threading.Event()

    def emit(self, record: logging.LogRecord) -> None:
        """Show what a record says, if it is for a person."""
        fields = vars(record)
        event, job = fields.get("event"), fields.get("jobid", fields.get("job_id", -1))
        if event == LogEvent.JOB_INFO and fields["rule_name"] in self._stages:
            if not self._workflow.touch:  # else nothing runs
                self._start(job, fields["rule_name"])
        elif event == LogEvent.JOB_FINISHED and job in self._started:
            self._end(job)
        elif event == LogEvent.JOB_ERROR and job in self._started:
            self._fail(job)
        elif self._total and fields.get("exception") == "RuleException":
            pass  # of a job that failed
        elif record.levelno >= logging.WARNING or (event is None and not self._total):
            self._print(record.getMessage())

    def close(self) -> None:
        """Say how long all took, and leave the terminal as it was."""
        if self._live is not None:
            self._live.stop()
            self._live = None
        if self._total and not self._over.is_set():
            self._print(f"{self._count()} in {duration(time.time() - self._began)}")
        self._over.set()
        super().close()

    def _start(self, job: int, rule: str) -> None:
        if not self._total:
            rules = [planned.rule.name for planned in self._workflow.dag.needrun_jobs()]
            self._waiting = [self._stages[name] for name in rules if name in self._stages]
            self._total = len(self._waiting)
            self._began = time.time()
            self._show_what_runs()
        _log(rule).unlink(missing_ok=True)  # an earlier run's: a job that never starts writes none
        self._started[job] = (rule, time.time())
        if self._stages[rule] in self._waiting:  # else it is tried again
            self._waiting.remove(self._stages[rule])

    def _end(self, job: int) -> None:
        rule, began = self._started.pop(job)
        stage, seconds = self._stages[rule], time.time() - began
        self._ended += 1
        how = "up to date or taken from the cache"
        if last := last_line(_log(rule)):
            self._took[stage] = seconds
            how = f"{last} ({duration(seconds)})"
        self._print(f"{self._count()} {stage:<24} {how}")

    def _fail(self, job: int) -> None:
        rule, _ = self._started.pop(job)
        why = last_line(_log(rule)) or "it did not start"
        line = f"{self._stages[rule]} failed: {why}; its log: {_log(rule)}"
        if line not in self._failures:  # else it was tried again, in vain
            self._print(line)
        self._failures.add(line)

    def _print(self, text: str) -> None:
        if self._live is None:
            say(text)
        else:
            self._live.console.print(text, highlight=False, markup=False, soft_wrap=True)

    def _count(self) -> str:
        return f"[{self._ended:>{len(str(self._total))}}/{self._total}]"

    # --- what runs now ---

    def _show_what_runs(self) -> None:
        if not sys.stderr.isatty():
            threading.Thread(target=self._say_from_time_to_time, daemon=True).start()
            return
        from rich.console import Console
        from rich.live import Live

        class Visible(Console):
            """A console that never hides the cursor: a SIGKILL would leave it hidden."""

            def show_cursor(self, show: bool = True) -> bool:
                return False

        self._live = Live(
            get_renderable=self._render,
            console=Visible(stderr=True),
            refresh_per_second=REFRESHES,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._live.start()

    def _say_from_time_to_time(self) -> None:
        while not self._over.wait(SECONDS_BETWEEN_LINES):
            under_way = self._under_way()
            for each in under_way:
                if each.training is not None:
                    say(f"{self._count()} {each.stage:<24} {_state(each)}")
            if left := remaining(self._took, under_way, self._waiting):
                say(f"{self._count()} {left}")

    def _render(self) -> RenderableType:
        from rich.console import Group
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        under_way = self._under_way()
        head = Table.grid(padding=(0, 2))
        head.add_row(
            ProgressBar(self._total, self._ended, width=24),
            f"{self._ended} of {self._total} stages",
            remaining(self._took, under_way, self._waiting),
        )
        stages = Table.grid(padding=(0, 2))
        for each in under_way:
            stages.add_row(f"  {each.stage}", Text(_state(each), style="dim", no_wrap=True))
        return Group(head, stages)

    def _under_way(self) -> list[UnderWay]:
        trainings = {f"train@{training.run}": training for training in running.read(CHECKPOINTS)}
        started = [(self._stages[rule], began) for rule, began in list(self._started.values())]
        return [
            UnderWay(stage, time.time() - began, trainings.get(stage)) for stage, began in started
        ]


def _state(each: UnderWay) -> str:
    if each.training is None:
        return duration(each.seconds)
    if not each.training.history:
        return f"epoch 1/{each.training.epochs}"
    last = each.training.history[-1]
    return (
        f"epoch {last['epoch']:.0f}/{each.training.epochs}, "
        f"validation accuracy {last['validation_accuracy']:.1%}, "
        f"{each.training.rate:,.0f} images/s"
    )


def _log(rule: str) -> Path:
    return Path("logs") / f"{rule}.log"
