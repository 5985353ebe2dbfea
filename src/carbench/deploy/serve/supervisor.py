"""Supervisor of the worker processes: restarts workers, updates the model, shuts down in time.

Extends uvicorn's supervisor, which starts and restarts the workers. On SIGHUP that one would
restart all workers, which closes connections; on shutdown it would wait indefinitely for a worker
that does not exit.
"""

from __future__ import annotations

import logging
import os
import shutil
import signal
import socket
import threading
from pathlib import Path

import uvicorn
from uvicorn.config import STARTUP_FAILURE
from uvicorn.supervisors import Multiprocess

from carbench.core.errors import CarbenchError
from carbench.deploy.bundle.loading import copy_bundle, load_bundle

log = logging.getLogger("carbench")
# Seconds before the end of the grace period at which a worker cancels its remaining requests, and
# at which it is killed.
CANCEL_SECONDS, KILL_SECONDS = 5, 2


class ModelSnapshots:
    """Private copies of the exported model folder, and a link to the current one.

    Args:
        folder: the folder that stage export wrote.
        int8: whether the 8-bit model is served.
        runtime: folder for the copies.
    """

    def __init__(self, folder: Path, int8: bool, runtime: Path) -> None:
        self._folder = folder
        self._int8 = int8
        self._runtime = runtime
        self._kept: list[Path] = []
        self._number = 0
        self.link = runtime / "model"

    def take(self) -> str:
        """Copy the folder, verify the copy and make it current; return its version.

        Raises:
            CarbenchError: the copy is not valid; the link is unchanged.
        """
        self._number += 1
        copy = self._runtime / f"model-{self._number}"
        try:
            copy_bundle(self._folder, copy)
            version = load_bundle(copy, self._int8).model.version
        except CarbenchError:
            shutil.rmtree(copy, ignore_errors=True)
            raise
        draft = self._runtime / "model.new"
        draft.symlink_to(copy)
        draft.replace(self.link)
        self._kept.append(copy)
        # A worker may still be reading the previous copy, but none older than that.
        for old in self._kept[:-2]:
            shutil.rmtree(old, ignore_errors=True)
        self._kept = self._kept[-2:]
        return version


class Supervisor(Multiprocess):
    """Runs the workers until SIGTERM or SIGINT; SIGHUP updates the model.

    Args:
        config: the uvicorn configuration; ``timeout_graceful_shutdown`` is set from ``grace``.
        listening: the listening socket.
        snapshots: copies of the model.
        grace: maximum seconds from SIGTERM to the exit of all processes.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        listening: socket.socket,
        snapshots: ModelSnapshots,
        grace: float,
    ) -> None:
        super().__init__(config, [listening])
        self._snapshots = snapshots
        self._grace = grace
        config.timeout_graceful_shutdown = max(int(grace) - CANCEL_SECONDS, 1)
        # Handled immediately, as the supervisor loop may be waiting for a worker.
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._end)

    def _end(self, *_: object) -> None:
        """Terminate the workers; kill those still alive shortly before the grace period ends."""
        if self.should_exit.is_set():
            return
        self.should_exit.set()
        killer = threading.Timer(max(self._grace - KILL_SECONDS, self._grace / 2), self._kill)
        killer.daemon = True
        killer.start()
        self._send(signal.SIGTERM)

    def _kill(self) -> None:
        self._send(signal.SIGKILL)

    def _send(self, number: signal.Signals) -> None:
        for process in self.processes:
            if process.process.is_alive() and process.pid is not None:
                os.kill(process.pid, number)

    def keep_subprocess_alive(self) -> None:
        """Restart dead workers.

        uvicorn pings each worker through a pipe and waits for the reply. Unless this process closes
        its copy of the worker's end of the pipe, it would wait for a worker that was killed.
        """
        for process in self.processes:
            process.child_conn.close()
        super().keep_subprocess_alive()

    def handle_hup(self) -> None:
        """Serve the current content of the exported folder, or log why that is not possible."""
        try:
            version = self._snapshots.take()
        except CarbenchError as error:
            log.error("still serving the previous model: %s", error)
        else:
            log.info("now serving %s", version)

    @property
    def failed(self) -> bool:
        """Whether a worker could not start."""
        return any(process.exitcode == STARTUP_FAILURE for process in self.processes)


def listen(host: str, port: int) -> socket.socket:
    """Return a listening socket.

    Raises:
        CarbenchError: the address cannot be used.
    """
    try:
        *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        family = socket.AF_INET6 if len(address) == 4 else socket.AF_INET
        listening = socket.socket(family)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
    except OSError as error:
        raise CarbenchError(
            f"{host}:{port}",
            found=f"an address that is not available ({error.strerror})",
            expected="an address of this machine and a free port",
            fix="stop the process that uses it, or set another --host or --port",
        ) from None
    listening.set_inheritable(True)
    return listening


def run_supervisor(
    config: uvicorn.Config, listening: socket.socket, snapshots: ModelSnapshots, grace: float
) -> bool:
    """Serve until SIGTERM or SIGINT; return whether the workers could start."""
    supervisor = Supervisor(config, listening, snapshots, grace)
    supervisor.run()
    return not supervisor.failed
