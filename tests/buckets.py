"""Servers of buckets on loopback, for DVC's real clients."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from conftest import active_environment


@dataclass
class Remote:
    """A remote: its URL scheme, the environment of its clients, and its server."""

    url: str
    env: dict[str, str] = field(default_factory=dict)
    command: list[str] = field(default_factory=list)
    port: int = 0
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        if not self.command:
            return
        self.process = subprocess.Popen(
            self.command,
            env=active_environment() | self.env,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + 60
        while True:
            assert self.process.poll() is None, "the server ended"
            assert time.monotonic() < deadline, "the server did not start"
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                return
            except OSError:
                time.sleep(0.1)

    def kill(self) -> None:
        if self.process:
            self.process.kill()
            self.process.wait()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def gcs(folder: Path) -> Remote:
    port = free_port()
    env = {
        "STORAGE_EMULATOR_HOST": f"http://127.0.0.1:{port}",
        # Newer gcsfs asks for a kind of bucket that the emulator does not know, for a minute.
        "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false",
    }
    emulator = ["gcp-storage-emulator", "-d", str(folder), "start", "--host", "127.0.0.1"]
    command = [*emulator, "--port", str(port), "--default-bucket", "bucket"]
    return Remote("gs://", env, command, port)


def s3(folder: Path) -> Remote:
    port = free_port()
    env = {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ACCESS_KEY_ID": "nobody",
        "AWS_SECRET_ACCESS_KEY": "nothing",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    return Remote("s3://", env, command, port)


def folder_remote(folder: Path) -> Remote:
    return Remote("/")
