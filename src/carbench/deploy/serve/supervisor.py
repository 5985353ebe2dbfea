"""The parent of the worker processes: replaces those that die, takes new models, ends in time.

uvicorn's own supervisor starts and replaces the workers. It would start them anew for a new model,
which ends connections; and wait without end for one that does not end.
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
# Seconds before the end of the grace period at which a worker cancels what it has not answered, and
# at which it is killed.
CANCEL_SECONDS, KILL_SECONDS = 5, 2


class ModelSnapshots:
    """Private copies of the exported folder, and a link to the one that is served.

    Args:
        folder: what stage export wrote.
        int8: whether its 8-bit model is served.
        runtime: where the copies are kept.
    """

    def __init__(self, folder: Path, int8: bool, runtime: Path) -> None:
        self._folder = folder
        self._int8 = int8
        self._runtime = runtime
        self._kept: list[Path] = []
        self._number = 0
        self.link = runtime / "model"

    def take(self) -> str:
        """Copy the folder, check the copy, and serve it from now on; return its version.

        Raises:
            CarbenchError: it cannot be served; the link is as it was.
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
        # A worker may be reading the one before; none reads the one before that.
        for old in self._kept[:-2]:
            shutil.rmtree(old, ignore_errors=True)
        self._kept = self._kept[-2:]
        return version


class Supervisor(Multiprocess):
    """The workers, until SIGTERM or SIGINT; SIGHUP takes a new model.

    Args:
        config: of uvicorn; ``timeout_graceful_shutdown`` is set from ``grace``.
        listening: the socket.
        copies: of the model.
        grace: seconds from SIGTERM to the end, at most.
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
        # At once, and not when the loop comes to it: it may be waiting for a worker to answer.
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._end)

    def _end(self, *_: object) -> None:
        """Let the workers end, and kill those that have not when the grace period is over."""
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
        """Replace the workers that have died.

        uvicorn asks each worker whether it is there, and waits. As long as this process, too, has
        the worker's end of the pipe open, it would wait for one that was killed.
        """
        for process in self.processes:
            process.child_conn.close()
        super().keep_subprocess_alive()

    def handle_hup(self) -> None:
        """Serve what is in the exported folder now, or say why not."""
        try:
            version = self._snapshots.take()
        except CarbenchError as error:
            log.error("the model that was served goes on being served: %s", error)
        else:
            log.info("serving %s from now on", version)

    @property
    def failed(self) -> bool:
        """Whether a worker could not start."""
        return any(process.exitcode == STARTUP_FAILURE for process in self.processes)


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens there.

    Raises:
        CarbenchError: nothing can listen there.
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
            found=f"an address that cannot be listened on ({error.strerror})",
            expected="an address of this machine, and a port that is free",
            fix="end what uses it, or set another --host or --port",
        ) from None
    listening.set_inheritable(True)
    return listening


def run_supervisor(
    config: uvicorn.Config, listening: socket.socket, snapshots: ModelSnapshots, grace: float
) -> bool:
    """Serve until told to end; return whether the workers could start."""
    supervisor = Supervisor(config, listening, snapshots, grace)
    supervisor.run()
    return not supervisor.failed
