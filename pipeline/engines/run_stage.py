"""One job of Snakemake: ``python -m pipeline.engines.run_stage STAGE LOG``.

DVC runs the stage, takes its result from the cache, or finds nothing changed. What the stage prints
goes to LOG, whose last line says how it ended; LOG is empty if it did not run. `display` shows it.

Written against DVC 3.67. What no manual promises, each with a test of its own in
tests/unit/test_run_stage.py: `Repo.reproduce`, the level of its messages, the logger of what
doesn't get into the cache, and that the text of `StageCmdFailedError` ends with the exit code.
"""

from __future__ import annotations

import logging
import os
import shutil
import signal
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from dvc.logger import set_loggers_level
from dvc.repo import Repo, lock_repo
from dvc.stage.exceptions import StageCmdFailedError

from pipeline.engines import dvc_state, false_records
from pipeline.system.errors import FULL_DISK, StageError


def main(stage: str, log: Path) -> int:
    """Run a stage and return the exit code of its job: 0 done or up to date, 1 it failed.

    Args:
        stage: its address in DVC, such as ``dvc.yaml:train@cnn-0``.
        log: the file for what it prints.
    """
    # who cancels a job ends the stage's command, which has no such handler; DVC then tidies up
    signal.signal(signal.SIGTERM, lambda *_: None)
    terminal = os.dup(sys.stdout.fileno())
    printed = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND)
    for stream in (sys.stdout, sys.stderr):
        os.dup2(printed, stream.fileno())

    logging.getLogger("dvc_data.hashfile.transfer").addFilter(_fail)
    try:
        with set_loggers_level(logging.ERROR), Repo(_wait_for_lock=True) as repo:
            repo.reproduce(stage, single_item=True)
            name = stage.removeprefix("dvc.yaml:")
            if false_record(repo, name):
                dvc_state.forget_runs(repo, [name])
                repo.reproduce(stage, single_item=True, force=True)
                if text := false_record(repo, name):
                    raise StageError(f"{text}; run again")
    except (Exception, KeyboardInterrupt) as error:
        end_with_reason(error, log, terminal)
        return 1
    return 0


def false_record(repo: Repo, name: str) -> str | None:
    """Return what made a stage's output and isn't what dvc.lock records, None if all is right."""
    with lock_repo(repo):  # DVC writes dvc.lock in place
        stages = false_records.read_lock("split", name)
    return false_records.find(stages).get(name)


def _fail(record: logging.LogRecord) -> bool:
    """Stop at a file that doesn't get into the cache: DVC logs it and records the stage as done."""
    if record.exc_info and record.exc_info[1]:
        raise record.exc_info[1]
    return True


def end_with_reason(error: BaseException, log: Path, terminal: int) -> None:
    """See that a log ends with one line that says why the stage failed.

    Where its disk is full, the line goes to the file descriptor `terminal`.
    """
    command, system = _cause(error, StageCmdFailedError), _cause(error, OSError)
    if command is not None:
        # a shell between DVC and what was killed adds 128 to the number of the signal
        status = int(str(command).rpartition(" ")[2])
        number = -status if status < 0 else status - 128
        text = _killed_by(number) or last_line(log) or str(command)
    elif isinstance(system, OSError) and system.errno in FULL_DISK:
        text = f"{system.strerror}: {_full_disk()}; make room, then run the same command again"
    else:
        text = ": ".join(filter(None, map(str, _causes(error)))) or type(error).__name__
    text = " ".join(text.split())
    if text != last_line(log):
        try:
            with log.open("a", encoding="utf-8") as file:
                file.write(f"{text}\n")
        except OSError:
            with suppress(BrokenPipeError):  # Snakemake was killed
                os.write(terminal, f"{log.stem}: {text}\n".encode())


def _killed_by(number: int) -> str | None:
    if number == signal.SIGINT:
        return "interrupted"
    if number not in signal.valid_signals():
        return None
    why = ": out of memory?" if number == signal.SIGKILL else ""
    return f"killed by signal {number} ({signal.Signals(number).name}){why}"


def _full_disk() -> str:
    """Return which place of DVC's has the least room: it is what could not be written to."""
    repo = Repo()
    places = {
        "the DVC cache": Path(repo.cache.local_cache_dir),
        "DVC's temporary files": Path(repo.tmp_dir),
        "the project": Path(repo.root_dir),
    }
    free = {name: shutil.disk_usage(path).free for name, path in places.items() if path.exists()}
    fullest = min(free, key=free.__getitem__)
    return f"{fullest} at {places[fullest]} has {free[fullest] / 1e6:.1f} MB left"


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__


def _cause(error: BaseException, kind: type[BaseException]) -> BaseException | None:
    return next((cause for cause in _causes(error) if isinstance(cause, kind)), None)


def last_line(log: Path) -> str:
    """Return what a log ends with, nothing if it is empty or was not written."""
    text = log.read_text(encoding="utf-8", errors="replace") if log.is_file() else ""
    return text.strip().rpartition("\n")[2].strip()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], Path(sys.argv[2])))
