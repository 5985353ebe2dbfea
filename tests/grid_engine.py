"""A real Grid Engine on this machine, for tests: one node, which declares 32 slots and 2 GPUs."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from conftest import active_environment
from slurm_cluster import free_ports

PROGRAMS = ("qsub", "qstat", "qacct", "qconf")
DAEMONS = ("sge_execd", "sge_qmaster")
# Debian's packages: the programs, and the files from which a new cell is made.
LIBRARY = Path("/usr/lib/gridengine")
SHARE = Path("/usr/share/gridengine")
DEBIAN_ROOT = Path("/var/lib/gridengine")

PARALLEL_ENVIRONMENT = """
pe_name smp
slots 999
user_lists NONE
xuser_lists NONE
start_proc_args NONE
stop_proc_args NONE
allocation_rule $pe_slots
control_slaves FALSE
job_is_first_task TRUE
urgency_slots min
accounting_summary FALSE
qsort_args NONE
"""
# Resources beside those of every Grid Engine.
COMPLEXES = """
gpu gpu INT <= YES YES 0 0
exclusive excl BOOL EXCL YES YES 0 1000
"""


def obstacle() -> str | None:
    """Return why no Grid Engine can be started here; None if one can."""
    daemons = [name for name in DAEMONS if not (LIBRARY / name).exists()]
    missing = daemons + [name for name in PROGRAMS if shutil.which(name) is None]
    if missing:
        return (
            f"Grid Engine is not installed: no {', '.join(missing)}"
            " (gridengine-master, gridengine-exec, gridengine-client)"
        )
    if os.geteuid() != 0:
        return "only root may start Grid Engine's daemons"
    return None


@dataclass
class GridEngine:
    """A running Grid Engine."""

    folder: Path
    qmaster_port: int
    execd_port: int

    @property
    def environment(self) -> dict[str, str]:
        """The environment of a user's shell."""
        return active_environment() | {
            "SGE_ROOT": str(self.folder),
            "SGE_CELL": "default",
            "SGE_QMASTER_PORT": str(self.qmaster_port),
            "SGE_EXECD_PORT": str(self.execd_port),
        }

    def run(self, *command: str | Path) -> str:
        """Run one of Grid Engine's commands and return its output."""
        done = subprocess.run(
            command, env=self.environment, capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, (command, done.stdout, done.stderr)
        return done.stdout

    def jobs(self) -> dict[str, str]:
        """Return the states of the jobs that are pending or running, by id."""
        lines = self.run("qstat").splitlines()[2:]
        return {line.split()[0]: line.split()[4] for line in lines}

    def job(self, job: str) -> dict[str, str]:
        """Return what the scheduler knows about a pending or running job; nothing if it ended."""
        listed = subprocess.run(
            ["qstat", "-j", job], env=self.environment, capture_output=True, text=True, timeout=60
        )
        return dict(re.findall(r"^([\w ]+):\s+(.*)$", listed.stdout, re.MULTILINE))


@contextmanager
def grid_engine() -> Iterator[GridEngine]:
    """Start Grid Engine in a folder of its own; it ends with the context.

    It uses neither the cell that Debian's packages made nor its ports.
    """
    folder = Path(tempfile.mkdtemp(prefix="grid-"))
    engine = GridEngine(folder, *free_ports(2))
    try:
        folder.chmod(0o755)
        _create_cell(engine)
        _start(engine, "qmaster")
        _configure(engine)
        _start(engine, "execd")
        wait_until(lambda: "lx-" in engine.run("qhost").splitlines()[-1])
        yield engine
    finally:
        with suppress(AssertionError, OSError, subprocess.SubprocessError):
            engine.run("qdel", "-u", "*")
            wait_until(lambda: not engine.jobs())
        for name in ("execd", "qmaster"):
            _stop(engine, name)
        shutil.rmtree(folder, ignore_errors=True)


def _create_cell(engine: GridEngine) -> None:
    folder, host = engine.folder, socket.gethostname()
    for name in ("bin", "lib", "util", "utilbin"):
        (folder / name).symlink_to(DEBIAN_ROOT / name)
    common = folder / "default/common"
    for made in (common, folder / "spooldb", folder / "qmaster", folder / "execd"):
        made.mkdir(parents=True)
    bootstrap = (SHARE / "default-bootstrap").read_text()
    bootstrap = bootstrap.replace("/var/spool/gridengine", str(folder))
    (common / "bootstrap").write_text(bootstrap.replace("sgeadmin", "root"))
    (common / "act_qmaster").write_text(f"{host}\n")
    # Grid Engine rejects a host that is called localhost, as /etc/hosts may call this one.
    (common / "host_aliases").write_text(f"{host} localhost\n")
    configuration = (SHARE / "default-configuration").read_text()
    configuration = configuration.replace("/var/spool/gridengine", str(folder))
    # Another Grid Engine on this machine marks its jobs with the groups of Debian's range.
    configuration = with_values(
        configuration,
        min_uid="0",
        min_gid="0",
        administrator_mail="none",
        gid_range="65200-65299",
    )
    (folder / "configuration").write_text(
        configuration.replace("flush_time=00:00:15", "flush_time=00:00:01")
    )
    engine.run(LIBRARY / "spoolinit", "berkeleydb", "libspoolb", folder / "spooldb", "init")
    for what, value in (
        ("configuration", folder / "configuration"),
        ("complexes", SHARE / "util/resources/centry"),
        ("usersets", SHARE / "util/resources/usersets"),
        ("managers", "root"),
    ):
        engine.run(LIBRARY / "spooldefaults", what, value)


def _configure(engine: GridEngine) -> None:
    """Define the queue, and what the scripts of the profile request."""
    host = socket.gethostname()

    def apply(option: str, text: str) -> None:
        (engine.folder / "given").write_text(text)
        engine.run("qconf", option, engine.folder / "given")

    engine.run("qconf", "-as", host)
    apply("-Mc", engine.run("qconf", "-sc") + COMPLEXES.lstrip())
    apply("-Ap", PARALLEL_ENVIRONMENT.lstrip())
    queue = with_values(
        engine.run("qconf", "-sq"),
        qname="main.q",
        hostlist=host,
        slots="32",
        pe_list="smp",
        load_thresholds="NONE",  # take jobs on a busy machine, too
    )
    apply("-Aq", queue)
    engine.run("qconf", "-mattr", "exechost", "complex_values", "gpu=2,exclusive=true", host)
    scheduler = with_values(
        engine.run("qconf", "-ssconf"),
        schedule_interval="0:0:1",
        flush_submit_sec="1",
        flush_finish_sec="1",
        job_load_adjustments="NONE",
    )
    apply("-Msconf", scheduler)


def with_values(text: str, **values: str) -> str:
    """Replace values in a configuration of lines of a key and a value."""
    for key, value in values.items():
        text, count = re.subn(rf"^({key}\s+).*$", rf"\g<1>{value}", text, flags=re.MULTILINE)
        assert count == 1, key
    return text


def _start(engine: GridEngine, name: str) -> None:
    """Start a daemon; the command returns when it is ready."""
    subprocess.run(
        [LIBRARY / f"sge_{name}"],
        env=engine.environment | {f"SGE_{name.upper()}_PIDFILE": str(_pid_file(engine, name))},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        check=True,
        timeout=90,
    )


def _stop(engine: GridEngine, name: str) -> None:
    """End a daemon, and wait until it has written its state."""
    with suppress(OSError, ValueError):
        process = int(_pid_file(engine, name).read_text())
        os.kill(process, signal.SIGTERM)
        state = Path(f"/proc/{process}/stat")
        # A daemon is no child of this process; whoever inherits it may leave it as a zombie.
        wait_until(lambda: not state.exists() or ") Z" in state.read_text())


def _pid_file(engine: GridEngine, name: str) -> Path:
    return engine.folder / f"{name}.pid"


def wait_until(reached: Callable[[], bool], seconds: float = 60) -> None:
    """Wait until a condition is met."""
    deadline = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < deadline
        time.sleep(0.2)
