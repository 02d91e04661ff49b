"""A real Slurm with two emulated nodes on this machine, for tests marked `slurm`."""

import os
import secrets
import shutil
import socket
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("two_nodes.sh")
_PORTS = 6
MISSING = (
    "Slurm is not installed: as root, apt-get update && "
    "apt-get install -y --no-install-recommends slurm-wlm munge"
)


class Cluster:
    """The daemons ``ctld``, ``n1`` and ``n2`` (the nodes' slurmd), ``munged``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.gpus = 2 if _makes_devices(folder) else 0
        settings = {"SLURM2_PORT": str(_free_ports()), "SLURM2_GPUS": str(self.gpus)}
        self._environment = {**os.environ, **settings}
        self.conf = folder / "slurm.conf"

    def _script(self, verb: str, *what: str) -> None:
        command = ["bash", str(SCRIPT), verb, str(self.folder), *what]
        done = subprocess.run(
            command, env=self._environment, capture_output=True, text=True, check=False, timeout=90
        )
        assert done.returncode == 0, done.stdout + done.stderr

    def start(self) -> None:
        self._script("start")

    def stop(self) -> None:
        self._script("stop")

    def kill(self, daemon: str) -> None:
        """`kill -9` one daemon."""
        self._script("kill", daemon)

    def revive(self, daemon: str) -> None:
        """Restart a daemon."""
        self._script("daemon", daemon)

    def ask(self, *command: str) -> str:
        """The output of a Slurm command."""
        asked = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        return asked.stdout + asked.stderr

    def ids(self, name: str = "") -> list[str]:
        """The ids of pending and running jobs, or of those whose name contains ``name``."""
        lines = self.ask("squeue", "-h", "-o", "%i %j").splitlines()
        return [line.split()[0] for line in lines if name in line.split()[-1]]


def _makes_devices(folder: Path) -> bool:
    """Whether fake GPUs are possible: a container may not let root create device files."""
    try:
        os.mknod(folder / "device", 0o600 | stat.S_IFCHR, os.makedev(1, 3))
    except PermissionError:
        return False
    return True


def _free_ports() -> int:
    """The first of enough consecutive ports on which nobody listens."""
    while True:
        first = 20_000 + secrets.randbelow(10_000)
        try:
            for port in range(first, first + _PORTS):
                with socket.socket() as asked:
                    asked.bind(("", port))
        except OSError:
            continue
        return first


@contextmanager
def running_cluster() -> Iterator[Cluster]:
    """A running cluster, with ``SLURM_CONF`` set; skips the test if Slurm is not installed."""
    if any(
        shutil.which(name, path="/usr/sbin:/usr/bin") is None for name in ("slurmctld", "munged")
    ):
        pytest.skip(MISSING)
    if os.geteuid() != 0:
        pytest.skip("a Slurm of its own needs root")
    # Not in pytest's folders: the names of sockets must be short.
    folder = Path(tempfile.mkdtemp(prefix="slurm-", dir="/tmp"))
    cluster = Cluster(folder)
    before = os.environ.get("SLURM_CONF")
    os.environ["SLURM_CONF"] = str(cluster.conf)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()
        if before is None:
            del os.environ["SLURM_CONF"]
        else:
            os.environ["SLURM_CONF"] = before
        shutil.rmtree(folder)
