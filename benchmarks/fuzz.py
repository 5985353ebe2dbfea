"""Send malformed requests to the service, attack it, and stop it with SIGTERM during the attacks.

Run in a finished study: `python benchmarks/fuzz.py --requests 10000 --seconds 60`.

- Malformed requests: mutated images from the study and in every format, images in unusual modes,
  files that are not images, and broken forms, over four connections. Prints the number of responses
  by status, and the memory of a worker over time.
- Attacks: batches of WebPs with 40 megapixels, JPEGs with hundreds of scans, PNGs that take much
  memory, clients that send large images and disconnect, 200 bodies and 50 headers that stop
  halfway, half of the bodies with `Expect: 100-continue`; all at once. Meanwhile, another client
  sends ordinary images, one after the other; prints how many were answered and how fast, compared
  with the same without attacks.
- SIGTERM during the attacks: prints how long the service and all of its processes took to exit.

Exits with status 1 if any response was 5xx other than 503, an ordinary image was not answered, or
the service did not exit within its grace period.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from attacks import encoded, half_a_body, large_webp, many_scans, transparent_png
from service_process import RunningService, children, run_service
from test_serve import BAD, IMAGE, ODD, mutated

CONNECTIONS = 4
GRACE = 15


def main() -> None:
    """Send requests, attack and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, default=60, help="duration of the attacks")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    statuses: Counter[int] = Counter()
    levels: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        options = ["--log", str(Path(folder) / "predictions.sqlite"), "--grace", str(GRACE)]
        with run_service(Path.cwd(), *options) as started:
            if args.requests:
                asyncio.run(send_all(started, args.requests, args.seed, statuses, levels))
                report_malformed(statuses, levels)
            sound = attacked(started, args.seconds)
    sys.exit(not sound or any(status >= 500 and status != 503 for status in statuses))


def report_malformed(statuses: Counter[int], levels: list[float]) -> None:
    """Print the number of responses by status, and the memory in MB."""
    warm = max(levels[: max(len(levels) // 10, 1)])
    most = max(levels)
    answers = ", ".join(f"{status}: {count}" for status, count in sorted(statuses.items()))
    print(f"{sum(statuses.values())} malformed requests; {answers}")
    print(
        f"peak resident memory of a worker: {warm:.0f} MB in the first tenth, {most:.0f} MB in all "
        f"({most / warm:.2f} times as much), {levels[-1]:.0f} MB at the end",
        flush=True,
    )


def attacked(started: RunningService, seconds: float) -> bool:
    """Attack the service and terminate it.

    Returns:
        Whether all ordinary images were answered, and all processes exited in time.
    """
    ordinary = [path.read_bytes() for path in started.images[:50]]
    calm, _ = ask_in_turn(started.url, ordinary, min(seconds, 10))
    statuses: Counter[str] = Counter()
    ended = threading.Event()
    attackers = [
        *[partial(bomb_batch, large_webp(40))] * 6,
        *[partial(bomb, many_scans())] * 2,
        *[partial(bomb, many_scans(60))] * 2,
        *[partial(bomb, transparent_png(39))] * 2,
        *[partial(bomb, large_webp(39))] * 2,
        *[partial(leave, large_webp(39))] * 2,
        partial(hold_open, 200),
    ]
    with ThreadPoolExecutor(len(attackers)) as threads:
        for attack in attackers:
            threads.submit(attack, started, statuses, ended)
        try:
            time.sleep(2)
            served, refused = ask_in_turn(started.url, ordinary, seconds)
            tree = [psutil.Process(started.process.pid)]
            tree += tree[0].children(recursive=True)
            memory = sum(process.memory_info().rss for process in tree if process.is_running())
            before = time.monotonic()
            started.process.send_signal(signal.SIGTERM)
            ended_in_time(started.process)
            took = time.monotonic() - before
            time.sleep(0.5)
            left = [process for process in tree if is_alive(process)]
        finally:
            ended.set()
    answers = ", ".join(f"{status}: {count}" for status, count in sorted(statuses.items()))
    print(f"attacks for {seconds:g} s; responses: {answers}")
    for name, times in (("without attacks", calm), ("under attack", served)):
        middle, late = np.quantile(times, [0.5, 0.99]) * 1000
        print(
            f"ordinary images {name}: {len(times)} answered, median {middle:.0f} ms, "
            f"99 % within {late:.0f} ms, all within {1000 * max(times):.0f} ms"
        )
    print(f"ordinary images not answered under attack: {refused}")
    print(f"memory of all processes under attack: {memory / 1e6:.0f} MB")
    print(f"exited {took:.1f} s after SIGTERM (grace {GRACE} s), processes left: {left}")
    return not refused and not left and took <= GRACE


def ended_in_time(process: subprocess.Popen[str]) -> None:
    """Wait until a process exits; kill it if it does not in time."""
    try:
        process.wait(GRACE + 5)
    except subprocess.TimeoutExpired:
        for child in psutil.Process(process.pid).children(recursive=True):
            print("still there:", child, child.cmdline()[-4:])
        process.kill()


def is_alive(process: psutil.Process) -> bool:
    """Return whether a process is running; a zombie is not."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def ask_in_turn(url: str, contents: list[bytes], seconds: float) -> tuple[list[float], int]:
    """Send images one after the other; return the seconds of each answer, and the failures."""
    times: list[float] = []
    refused = 0
    until = time.monotonic() + seconds
    with httpx.Client(timeout=60) as client:
        while (before := time.monotonic()) < until:
            content = contents[(len(times) + refused) % len(contents)]
            try:
                answer = client.post(f"{url}/v1/predict", files={"image": content})
                found = answer.status_code == 200
            except httpx.HTTPError:
                found = False
            if found:
                times.append(time.monotonic() - before)
            else:
                refused += 1
            time.sleep(0.01)
    return times, refused


def bomb_batch(content: bytes, *others: Any) -> None:
    """Send batches of 64."""
    repeat("/v1/predict_batch", [("images", content)] * 64, *others)


def bomb(content: bytes, *others: Any) -> None:
    """Send single images."""
    repeat("/v1/predict", [("image", content)], *others)


def repeat(
    path: str,
    files: list[tuple[str, bytes]],
    started: RunningService,
    statuses: Counter[str],
    ended: threading.Event,
) -> None:
    """Send a form repeatedly."""
    while not ended.is_set():
        try:
            answer = httpx.post(started.url + path, files=files, timeout=60)
            statuses[str(answer.status_code)] += 1
        except httpx.HTTPError:
            statuses["no answer"] += 1
            time.sleep(0.1)


def leave(
    content: bytes, started: RunningService, statuses: Counter[str], ended: threading.Event
) -> None:
    """Send large images, and disconnect half a second later."""
    while not ended.is_set():
        try:
            httpx.post(
                f"{started.url}/v1/predict",
                content=content,
                headers={"content-type": "image/webp"},
                timeout=0.5,
            )
        except httpx.TimeoutException:
            statuses["left"] += 1
        except httpx.HTTPError:
            time.sleep(0.1)


def hold_open(
    count: int, started: RunningService, statuses: Counter[str], ended: threading.Event
) -> None:
    """Keep requests open that stop halfway: ``count`` bodies, and a quarter as many headers."""
    held: list[socket.socket] = []
    while not ended.is_set():
        try:
            held = [half_a_body(started.port, number % 2 == 0) for number in range(count)]
            for _ in range(count // 4):
                client = socket.create_connection(("127.0.0.1", started.port))
                client.sendall(b"GET / HTTP/1.1\r\nX: ")
                held.append(client)
        except OSError:
            time.sleep(0.1)
        ended.wait(15)
        for client in held:
            client.close()


async def send_all(
    started: RunningService, count: int, seed: int, statuses: Counter[int], levels: list[float]
) -> None:
    """Send ``count`` requests; record each status, and the memory after every hundred."""
    rng = random.Random(seed)
    sound = [path.read_bytes() for path in started.images[:50]]
    sound += [encoded(IMAGE, kind) for kind in ("PNG", "WEBP", "GIF", "TIFF", "BMP")]
    odd = [content for content, _ in ODD.values()] + [content for content, *_ in BAD.values()]
    workers = [psutil.Process(pid) for pid in children(started.process.pid)]
    left = iter(range(count))

    async def send() -> None:
        async with httpx.AsyncClient(base_url=started.url, timeout=60) as client:
            for number in left:
                answer = await client.post(**malformed(rng, sound, odd))
                statuses[answer.status_code] += 1
                if number % 100 == 0:
                    levels.append(max(each.memory_info().rss for each in workers) / 1e6)

    await asyncio.gather(*(send() for _ in range(CONNECTIONS)))


def malformed(rng: random.Random, sound: list[bytes], odd: list[bytes]) -> dict[str, object]:
    """Return the arguments of a request that is hardly ever valid."""
    content = mutated(rng.choice(sound), rng)
    match rng.randrange(20):
        case 0:
            return {"url": "/v1/predict", "files": {"image": rng.choice(odd)}}
        case 1:
            return {
                "url": "/v1/predict",
                "files": {rng.choice(["", "image", "image\r\n"]): content},
            }
        case 2:
            kind = rng.choice(
                ["multipart/form-data", "multipart/form-data; boundary=x", "image/png"]
            )
            return {"url": "/v1/predict", "content": content, "headers": {"content-type": kind}}
        case 3:
            form = httpx.Request("POST", "http://x", files={"image": content})
            body = mutated(form.read(), rng)
            headers = {"content-type": form.headers["content-type"]}
            return {"url": "/v1/predict", "content": body, "headers": headers}
        case 4:
            files = [("images", mutated(rng.choice(sound), rng)) for _ in range(rng.randrange(5))]
            return {"url": "/v1/predict_batch", "files": files}
        case _:
            return {"url": "/v1/predict", "files": {"image": content}}


if __name__ == "__main__":
    main()
