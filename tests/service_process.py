"""Run `carbench serve` as a process, or its app in a thread."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from carbench.deploy.serve.settings import Settings

CARBENCH = (sys.executable, "-m", "carbench.cli.main")


@dataclass(frozen=True)
class RunningService:
    """A running service."""

    url: str
    port: int
    study: Path
    log: Path
    process: subprocess.Popen[str]

    @property
    def images(self) -> list[Path]:
        """JPEG images of the study."""
        files = sorted((self.study / "results/data/images").rglob("*.jpg"))
        return [path for path in files if path.read_bytes().startswith(b"\xff\xd8")]


@contextmanager
def run_service(
    study: Path, *arguments: str, timeout: float = 60, program: Sequence[str] = CARBENCH
) -> Iterator[RunningService]:
    """Serve the model of a finished study; it has to stop after SIGTERM."""
    port = free_port()
    command = [*program, "serve", "--port", str(port), *arguments]
    process = subprocess.Popen(command, cwd=study, stderr=subprocess.PIPE, text=True)
    log = Path(arguments[arguments.index("--log") + 1])
    try:
        wait_until_ready(f"http://127.0.0.1:{port}/readyz", process, timeout)
        yield RunningService(f"http://127.0.0.1:{port}", port, study, log, process)
        process.terminate()
        process.wait(30)
    finally:
        if process.poll() is None:
            for child in children(process.pid):
                os.kill(child, 9)
            process.kill()
            process.wait()


@contextmanager
def serve_in_thread(settings: Settings) -> Iterator[str]:
    """Run the app in a thread of this process; yield its URL."""
    import uvicorn

    from carbench.deploy.serve.app import create_app
    from carbench.deploy.serve.header_limits import HeaderLimitProtocol

    config = uvicorn.Config(
        create_app(settings), port=0, log_level="error", http=HeaderLimitProtocol
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.02)
        port = server.servers[0].sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(30)
        assert not thread.is_alive()


def wait_until_ready(url: str, process: subprocess.Popen[str], timeout: float) -> None:
    """Wait until a service reports that it is ready."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        if process.poll() is not None:
            assert process.stderr
            raise AssertionError(f"ended with {process.returncode}: {process.stderr.read()}")
        try:
            urllib.request.urlopen(url, timeout=5).read()
            return
        except OSError:
            time.sleep(0.1)
    raise AssertionError(f"{url} did not answer within {timeout} s")


def children(pid: int) -> list[int]:
    """Return the process ids of the child processes."""
    listed = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(child) for child in listed.split()]


def free_port() -> int:
    """Return a port that is currently free."""
    with socket.socket() as trial:
        trial.bind(("127.0.0.1", 0))
        port: int = trial.getsockname()[1]
        return port
