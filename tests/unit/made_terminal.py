"""A terminal of its own for a program, and what that shows."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.projects import hear_interruptions

ROOT = Path(__file__).parents[2]


def environment() -> dict[str, str]:
    programs = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return os.environ | {"PATH": programs, "PYTHONPATH": str(ROOT), "TERM": "xterm"}


@contextmanager
def on_terminal(
    command: Sequence[str], folder: Path, columns: int = 100
) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """Run a command in a folder; yield its process and the file descriptor of the screen."""
    screen, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    streams = {"stdin": terminal, "stdout": terminal, "stderr": terminal}
    running = subprocess.Popen(
        command, cwd=folder, env=environment(), start_new_session=True,
        preexec_fn=hear_interruptions, **streams,
    )  # fmt: skip
    os.close(terminal)
    try:
        yield running, screen
    finally:
        if running.poll() is None:
            os.killpg(running.pid, signal.SIGKILL)
            running.wait()
        os.close(screen)


def read_until(screen: int, wanted: str, seconds: float = 120.0) -> str:
    """Return what the screen has been sent by the time that it shows what is wanted."""
    text, given_up = "", time.monotonic() + seconds
    while wanted not in text:
        assert time.monotonic() < given_up, text
        if select.select([screen], [], [], 1.0)[0]:
            text += os.read(screen, 65536).decode(errors="replace")
    return text
