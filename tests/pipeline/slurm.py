"""A real Slurm of one node on this machine, for the tests: no database, no GPU behind its four."""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from socket import gethostname

import pytest
from filelock import FileLock

from tests.projects import wait_until

SETTINGS = Path("/etc/slurm")  # elsewhere, named by SLURM_CONF, the jobs' own srun doesn't find it
OURS = "# written by tests/pipeline/slurm.py\n"
NEEDS = ("munged", "slurmctld", "ip", "root")
ADDRESS = "10.99.99.1/32"
CORES = 8
GPUS = (
    "/dev/null",
    "/dev/zero",
    "/dev/full",
    "/dev/random",
)  # a GPU without a file would drain the node
SECONDS_TO_START = 30
SECONDS_TO_END = 40  # Slurm gives a cancelled job 30 before it kills it

# What matters beside names and places: status by squeue alone needs finished jobs to be kept, and
# AccountingStorageType, without a database, lets sacct find none.
CONFIGURATION = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=batch_sched_delay=0,bf_interval=5
ReturnToService=2
MinJobAge=3600
JobRequeue=0
AccountingStorageType=accounting_storage/none
GresTypes=gpu
SlurmdParameters=config_overrides
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
NodeName={host} NodeAddr=127.0.0.1 CPUs={cores} Boards=1 SocketsPerBoard=1 CoresPerSocket={cores} \
ThreadsPerCore=1 RealMemory=32000 Gres=gpu:{gpus} State=UNKNOWN
PartitionName=main Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


@contextmanager
def cluster() -> Iterator[None]:
    """Start Slurm, for one process of the test run at a time, and end it with all its jobs."""
    _refuse_other_slurm()
    with ExitStack() as stack:
        stack.enter_context(FileLock(Path(tempfile.gettempdir()) / "regard-slurm-tests.lock"))
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="slurm-")))
        folder.chmod(0o755)
        stack.enter_context(_second_address())
        stack.enter_context(_configured(folder))
        for daemon in _daemons(folder):
            stack.enter_context(_running(daemon, folder))
        wait_until(
            lambda: _output("sinfo", "--noheader", "--format=%T") == "idle\n", SECONDS_TO_START
        )
        try:
            yield
        finally:
            _output("scancel", "--user=root")
            wait_until_empty()


def queue() -> dict[str, str]:
    """The jobs that wait or run: their numbers by the rule that they are of."""
    lines = _output("squeue", "--noheader", "--format=%i %k").splitlines()
    return {comment.removeprefix("rule_"): number for number, comment in map(str.split, lines)}


def wait_until_empty() -> None:
    """Wait until no job waits, runs or is ending; fail if that takes longer than killing does."""
    wait_until(lambda: not queue(), SECONDS_TO_END)


def cancel(job: str) -> None:
    subprocess.run(["scancel", job], check=True, timeout=10)


def records() -> str:
    """What Slurm knows of every job since its start, a line for each."""
    return _output("scontrol", "--oneliner", "show", "job")


def version() -> str:
    """Name and number of the Slurm that runs; its programs print it only while it does."""
    return _output("sinfo", "--version").strip()


def jobs_of(record: str) -> dict[str, list[dict[str, str]]]:
    """The jobs of each rule in a record, in order of submission."""
    found: dict[str, list[dict[str, str]]] = {}
    for line in record.splitlines():
        job = dict(re.findall(r"(\w+)=(\S*)", line))
        found.setdefault(job["Comment"].removeprefix("rule_"), []).append(job)
    return found


def _refuse_other_slurm() -> None:
    """Fail where the machine has a Slurm of its own, which stays as it is."""
    for name in ("slurm.conf", "gres.conf"):
        if (SETTINGS / name).exists() and not (SETTINGS / name).read_text().startswith(OURS):
            pytest.fail(f"{SETTINGS / name} is of a Slurm of this machine, which stays as it is")


@contextmanager
def _second_address() -> Iterator[None]:
    """Give a machine without a network an address: the daemons don't start on 127.0.0.1 alone."""
    if _output("ip", "-4", "-oneline", "address", "show", "scope", "global"):
        yield
        return
    subprocess.run(["ip", "address", "add", ADDRESS, "dev", "lo"], check=True)
    try:
        yield
    finally:
        subprocess.run(["ip", "address", "del", ADDRESS, "dev", "lo"], check=True)


@contextmanager
def _configured(folder: Path) -> Iterator[None]:
    host = gethostname().split(".")[0]
    (folder / "state").mkdir()
    (folder / "munge.key").write_bytes(os.urandom(128))
    (folder / "munge.key").chmod(0o400)
    files = {
        "slurm.conf": CONFIGURATION.format(host=host, folder=folder, cores=CORES, gpus=len(GPUS)),
        "gres.conf": "".join(f"NodeName={host} Name=gpu File={path}\n" for path in GPUS),
    }
    SETTINGS.mkdir(exist_ok=True)
    try:
        for name, text in files.items():
            (SETTINGS / name).write_text(OURS + text)
        yield
    finally:
        for name in files:
            (SETTINGS / name).unlink(missing_ok=True)


def _daemons(folder: Path) -> list[list[str]]:
    """The commands, in the order in which they start, each in the foreground."""
    files = {name: folder / f"munge.{name}" for name in ("key", "socket", "pid", "log", "seed")}
    munged = ["munged", "--foreground", "--force"]
    for option, name in (
        ("key-file", "key"), ("socket", "socket"), ("pid-file", "pid"), ("log-file", "log"),
        ("seed-file", "seed"),
    ):  # fmt: skip
        munged.append(f"--{option}={files[name]}")
    return [munged, ["slurmctld", "-D", "-c"], ["slurmd", "-D"]]


@contextmanager
def _running(command: list[str], folder: Path) -> Iterator[None]:
    with (folder / f"{command[0]}.output").open("w") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _output(*command: str) -> str:
    """What a command prints; nothing where it would wait for ever, since no controller answers."""
    try:
        return subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=10
        ).stdout
    except subprocess.TimeoutExpired:
        return ""
