"""A run shared between clones over SSH, as docs/remotes.md tells; the sshd is the test's own."""

from __future__ import annotations

import getpass
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from tests import needs
from tests.projects import Project, started, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.needs("sshd")]
Copy = Callable[[Project], Project]

SECONDS_TO_START = 10
SECONDS_TO_PUSH = 60
PUSHED_BEFORE_THE_CUT = 5
WEIGHTS = "data/trained/**/model.safetensors"

CONFIGURATION = """
ListenAddress 127.0.0.1
Port {port}
HostKey {folder}/host
AuthorizedKeysFile {folder}/user.pub
AuthenticationMethods publickey
PermitRootLogin prohibit-password
StrictModes no
UsePAM no
PidFile none
Subsystem sftp internal-sftp
"""


@dataclass(frozen=True)
class Server:
    """An sshd on the loopback device, which lets one key in.

    Attributes:
        process: the one that listens; every connection has its own below it.
        port: that it listens on.
        key: the file of the private key.
        storage: the folder for DVC's remote.
    """

    process: psutil.Process
    port: int
    key: Path
    storage: Path

    def cut(self) -> None:
        """End all connections at once; it still listens."""
        for connection in self.process.children(recursive=True):
            connection.kill()

    def objects(self) -> dict[str, int]:
        """Return the size in bytes of every complete object in the storage."""
        files = (path for path in self.storage.rglob("*") if path.is_file())
        return {
            str(path.relative_to(self.storage)): path.stat().st_size
            for path in files
            if path.suffix in ("", ".dir")
        }


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    program = str(needs.find("sshd"))
    if needs.is_root():
        Path("/run/sshd").mkdir(exist_ok=True)  # root's sshd refuses to start without
    folder = tmp_path / "ssh"
    folder.mkdir()
    for name in ("host", "user"):
        subprocess.run(
            ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name], check=True
        )
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    configuration = folder / "sshd_config"
    configuration.write_text(CONFIGURATION.format(port=port, folder=folder))
    log = folder / "log"
    started = subprocess.Popen([program, "-D", "-f", configuration, "-E", log])
    running = Server(psutil.Process(started.pid), port, folder / "user", tmp_path / "storage")
    try:
        wait_until(lambda: is_listening(port), SECONDS_TO_START, log.read_text)
        yield running
    finally:
        running.cut()
        started.kill()
        started.wait()


def is_listening(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture
def shared(snakemade: Project, copy_of: Copy, server: Server) -> Project:
    """A finished run with the SSH remote in its settings; nothing is pushed yet."""
    project = copy_of(snakemade)
    url = f"ssh://127.0.0.1:{server.port}{server.storage}"
    project.dvc("remote", "add", "--quiet", "--default", "storage", url)
    project.commit("a remote")
    project.dvc("remote", "modify", "--local", "storage", "user", getpass.getuser())
    project.dvc("remote", "modify", "--local", "storage", "keyfile", str(server.key))
    return project


def clone_of(project: Project, root: Path, url: Path | None = None) -> Project:
    """Clone a project and tell the clone the key, which git doesn't keep."""
    project.run("git", "clone", "--quiet", str(url or project.root), str(root))
    shutil.copy2(project.root / ".dvc" / "config.local", root / ".dvc" / "config.local")
    return Project(root)


def test_run_that_was_pushed_over_a_cut_connection_is_complete_in_a_clone(
    shared: Project, server: Server, tmp_path: Path
) -> None:
    log = tmp_path / "push.log"
    with started(shared, ["dvc", "push", "--jobs", "1"], log) as push:
        wait_until(
            lambda: len(server.objects()) >= PUSHED_BEFORE_THE_CUT, SECONDS_TO_PUSH, log.read_text
        )
        server.cut()
        assert push.wait(SECONDS_TO_PUSH) != 0, "the push was over before the connection was cut"
    before = server.objects()

    shared.dvc("push")
    after = server.objects()
    assert 0 < len(before) < len(after)
    assert before.items() <= after.items()

    clone = clone_of(shared, tmp_path / "clone")
    clone.dvc("pull")
    for pattern in ("data/**/*", "reports/**/*"):
        assert clone.hashes(pattern) == shared.hashes(pattern) != {}
    clone.snakemake("--touch", cores=1)  # the files' times are those of the pull, in any order
    assert clone.plans_nothing()
    assert clone.is_clean()


def test_object_that_was_changed_on_the_server_is_refused_where_it_is_verified(
    shared: Project, server: Server, tmp_path: Path
) -> None:
    shared.dvc("remote", "modify", "storage", "verify", "true")
    shared.commit("verify what is pulled")
    target = "train@cnn-0"
    shared.dvc("push", target)
    stored = next(path for path in server.storage.rglob("*") if is_safetensors(path))
    stored.chmod(0o600)
    stored.write_bytes(stored.read_bytes()[:-1] + b"!")
    clone = clone_of(shared, tmp_path / "clone")
    clone.dvc("pull", target, expect=1)
    assert not list(clone.root.glob(WEIGHTS))


def is_safetensors(path: Path) -> bool:
    return path.is_file() and b'"__metadata__"' in path.read_bytes()[:1000]


def test_experiment_goes_from_one_clone_to_another(shared: Project, tmp_path: Path) -> None:
    origin = tmp_path / "origin.git"
    shared.run("git", "clone", "--quiet", "--bare", str(shared.root), str(origin))
    shared.run("git", "remote", "add", "origin", str(origin))
    shared.dvc("push")
    shared.dvc("exp", "run", "--name", "wider", "--set-param", "report.margin=0.7")
    shared.dvc("exp", "push", "origin", "wider")
    metrics = shared.hashes("reports/metrics.json") | shared.hashes("reports/report.md")

    clone = clone_of(shared, tmp_path / "clone", origin)
    clone.dvc("exp", "pull", "origin", "wider")
    clone.dvc("exp", "apply", "wider")
    assert "margin: 0.7" in (clone.root / "params.yaml").read_text()
    found = clone.hashes("reports/metrics.json") | clone.hashes("reports/report.md")
    assert found == metrics
    assert clone.hashes(WEIGHTS) == shared.hashes(WEIGHTS) != {}
