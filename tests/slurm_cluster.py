"""A real Slurm on this machine, for tests: two nodes, which declare 8 CPUs and 2 GPUs each."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from conftest import active_environment

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch")
NODES = ("n1", "n2")
# Where Slurm looks for its configuration. Snakemake's executor removes SLURM_CONF from the
# environment of a job's command.
SYSTEM_CONF = Path("/etc/slurm/slurm.conf")

SLURM_CONF = """
ClusterName=tests
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CryptoType=crypto/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
ReturnToService=2
SlurmdParameters=config_overrides
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerParameters=sched_interval=2,bf_interval=2
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
JobAcctGatherParams=OverMemoryKill
AccountingStorageType=accounting_storage/none
GresTypes=gpu
MinJobAge=300
KillWait=5
InactiveLimit=0
SlurmdTimeout=10
DefMemPerCPU=500
{nodes}
PartitionName=main Nodes={names} Default=YES MaxTime=INFINITE State=UP
"""
NODE = (
    "NodeName={name} NodeHostname={host} NodeAddr=127.0.0.1 Port={port}"
    " CPUs=8 RealMemory=64000 Gres=gpu:2 State=UNKNOWN"
)


def obstacle() -> str | None:
    """Return why no cluster can be started here; None if one can."""
    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    if missing:
        return f"Slurm is not installed: no {', '.join(missing)} (slurm-wlm, munge)"
    if os.geteuid() != 0:
        return "only root may start Slurm's daemons"
    if SYSTEM_CONF.exists() and not SYSTEM_CONF.is_symlink():
        return f"this machine has a Slurm of its own ({SYSTEM_CONF})"
    return None


@dataclass
class SlurmCluster:
    """A running cluster."""

    folder: Path

    @property
    def environment(self) -> dict[str, str]:
        """The environment of a user's shell."""
        return active_environment() | {"SLURM_CONF": str(self.folder / "slurm.conf")}

    def run(self, *command: str) -> str:
        """Run one of Slurm's commands and return its output."""
        done = subprocess.run(
            command, env=self.environment, capture_output=True, text=True, check=True
        )
        return done.stdout

    def start_node(self, name: str) -> None:
        """Start a node's daemon."""
        self.run("slurmd", "-N", name)

    def kill_node(self, name: str) -> None:
        """Kill a node's daemon, and leave the processes of its jobs."""
        pid = int((self.folder / f"slurmd-{name}.pid").read_text())
        os.kill(pid, signal.SIGKILL)

    def jobs(self) -> list[list[str]]:
        """Return id, state, node and name of the jobs that are pending or running."""
        listed = self.run("squeue", "--noheader", "--format", "%i %T %N %j")
        return [line.split() for line in listed.splitlines()]

    def state(self, job: str) -> str:
        """Return the state of a job that has ended less than five minutes ago."""
        return re.findall(r"JobState=(\w+)", self.run("scontrol", "show", "job", job))[0]

    def wait_until_idle(self, seconds: float = 30) -> None:
        """Wait until all nodes can take jobs."""
        deadline = time.monotonic() + seconds
        while True:
            states = self.run("sinfo", "--noheader", "--Node", "--format", "%T").split()
            if set(states) == {"idle"}:
                return
            assert time.monotonic() < deadline, states
            time.sleep(0.2)


@contextmanager
def slurm_cluster() -> Iterator[SlurmCluster]:
    """Start a cluster in a folder of its own; it ends with the context."""
    folder = Path(tempfile.mkdtemp(prefix="slurm-"))  # the path of a socket must be short
    cluster = SlurmCluster(folder)
    try:
        _write_configuration(folder)
        SYSTEM_CONF.parent.mkdir(exist_ok=True)
        SYSTEM_CONF.unlink(missing_ok=True)
        SYSTEM_CONF.symlink_to(folder / "slurm.conf")
        _start_munge(folder)
        cluster.run("slurmctld", "-c")
        for name in NODES:
            cluster.start_node(name)
        cluster.wait_until_idle()
        yield cluster
    finally:
        with suppress(OSError, subprocess.CalledProcessError):
            cluster.run("scancel", "--user", "root")
        for name in (*(f"slurmd-{node}" for node in NODES), "slurmctld", "munged"):
            with suppress(OSError, ValueError):
                os.kill(int((folder / f"{name}.pid").read_text()), signal.SIGTERM)
        time.sleep(1)
        SYSTEM_CONF.unlink(missing_ok=True)
        shutil.rmtree(folder, ignore_errors=True)


def _write_configuration(folder: Path) -> None:
    (folder / "state").mkdir()
    host, (port, *node_ports) = socket.gethostname(), free_ports(1 + len(NODES))
    nodes = [
        NODE.format(name=name, host=host, port=own)
        for name, own in zip(NODES, node_ports, strict=True)
    ]
    text = SLURM_CONF.format(
        host=host, port=port, folder=folder, nodes="\n".join(nodes), names=",".join(NODES)
    )
    (folder / "slurm.conf").write_text(text)
    for number in range(2):  # Slurm requires a character device for each GPU
        subprocess.run(["mknod", folder / f"gpu{number}", "c", "1", "3"], check=True)
    devices = "\n".join(f"Name=gpu File={folder}/gpu{number}" for number in range(2))
    (folder / "gres.conf").write_text(devices)


def _start_munge(folder: Path) -> None:
    key = folder / "munge.key"
    key.write_bytes(os.urandom(1024))
    key.chmod(0o400)
    folder.chmod(0o755)
    options = {
        "key-file": key,
        "socket": folder / "munge.socket",
        "pid-file": folder / "munged.pid",
        "log-file": folder / "munged.log",
        "seed-file": folder / "munged.seed",
    }
    words = [f"--{name}={path}" for name, path in options.items()]
    subprocess.run(["munged", "--force", *words], check=True)


def free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports
