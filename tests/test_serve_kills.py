"""The service after SIGTERM and SIGKILL: no acknowledged prediction is lost."""

from __future__ import annotations

import asyncio
import os
import random
import re
import signal
import socket
import sqlite3
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import httpx
import pytest

from attacks import encoded
from service_process import RunningService, children, run_service
from test_serve import IMAGE

pytestmark = pytest.mark.slow


def test_requests_in_progress_are_completed_after_sigterm(deployed: Path, tmp_path: Path) -> None:
    content = encoded(IMAGE, "JPEG")
    with run_service(deployed, "--log", str(tmp_path / "log.sqlite")) as started:

        def trickle() -> Iterator[bytes]:
            head = b'--b\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n'
            yield head
            time.sleep(1)
            yield content + b"\r\n--b--\r\n"

        with ThreadPoolExecutor(1) as client:
            kind = {"content-type": "multipart/form-data; boundary=b"}
            answer = client.submit(
                httpx.post, f"{started.url}/v1/predict", content=trickle(), headers=kind
            )
            time.sleep(0.5)
            started.process.send_signal(signal.SIGTERM)
            assert answer.result().status_code == 200
        started.process.wait(20)


def test_no_acknowledged_prediction_is_lost(deployed: Path, tmp_path: Path) -> None:
    """Workers are killed under load and restarted."""
    log = tmp_path / "log.sqlite"
    with run_service(deployed, "--log", str(log), "--workers", "2") as started:
        asyncio.run(ask_and_kill(started, 3, acknowledged := []))
        deadline = time.monotonic() + 20  # until the last killed worker has been noticed
        while in_work(started) != 0:
            assert time.monotonic() < deadline
            time.sleep(0.2)
    assert len(acknowledged) > 50
    assert set(acknowledged) <= logged(log)


def in_work(started: RunningService) -> float:
    """Return the number of requests in progress, from the metrics."""
    text = httpx.get(f"{started.url}/metrics").text
    (value,) = re.findall(r"^carbench_requests_in_work (.*)$", text, re.M)
    return float(value)


def test_workers_exit_when_the_supervisor_is_killed(deployed: Path, tmp_path: Path) -> None:
    log = tmp_path / "log.sqlite"
    with run_service(deployed, "--log", str(log), "--workers", "2") as started:
        started.process.kill()
        deadline = time.monotonic() + 20
        while listens(started.port):
            assert time.monotonic() < deadline
            time.sleep(0.1)


def listens(port: int) -> bool:
    with socket.socket() as trial:
        return trial.connect_ex(("127.0.0.1", port)) == 0


async def ask_and_kill(started: RunningService, kills: int, acknowledged: list[str]) -> None:
    """Send requests over eight connections until the given number of workers was killed."""
    rng, ended = random.Random(0), False
    contents = [path.read_bytes() for path in started.images[:20]]

    async def ask() -> None:
        async with httpx.AsyncClient() as client:
            while not ended:
                try:
                    answer = await client.post(
                        f"{started.url}/v1/predict", files={"image": rng.choice(contents)}
                    )
                except httpx.HTTPError:
                    await asyncio.sleep(0.05)
                    continue
                if answer.status_code == 200:
                    acknowledged.append(answer.json()["id"])

    asking = [asyncio.create_task(ask()) for _ in range(8)]
    for _ in range(kills):
        await asyncio.sleep(1 + rng.random())
        workers = [pid for pid in children(started.process.pid) if is_worker(pid)]
        if workers:
            os.kill(rng.choice(workers), signal.SIGKILL)
    await asyncio.sleep(3)
    ended = True
    await asyncio.gather(*asking)


def is_worker(pid: int) -> bool:
    """Return whether the process is a worker, and not the resource tracker of Python."""
    try:
        return b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def logged(log: Path) -> set[str]:
    with closing(sqlite3.connect(log)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        return {row[0] for row in connection.execute("SELECT id FROM predictions")}
