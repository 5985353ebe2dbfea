"""Malformed requests without end: no 5xx, and memory that does not grow.

Run in a finished study: `python benchmarks/fuzz.py --requests 10000`. Mutated pictures of the study
and of every format, pictures in odd modes, files that are none, and forms that are broken, over
four connections. Prints what was answered how often, and the largest resident set of a worker over
the run against that after a tenth of it.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import tempfile
from collections import Counter
from pathlib import Path

import httpx
import psutil

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from running import Running, children, running
from test_serve import BAD, ODD, PICTURE, encoded, mutated

CONNECTIONS = 4


def main() -> None:
    """Send, watch and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    statuses: Counter[int] = Counter()
    levels: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "predictions.sqlite"
        with running(Path.cwd(), "--log", str(log)) as started:
            asyncio.run(send_all(started, args.requests, args.seed, statuses, levels))
    warm = max(levels[: max(len(levels) // 10, 1)])
    most = max(levels)
    answers = ", ".join(f"{status}: {count}" for status, count in sorted(statuses.items()))
    print(f"{sum(statuses.values())} requests; {answers}")
    print(
        f"largest resident set of a worker: {warm:.0f} MB after a tenth, {most:.0f} MB in all, "
        f"{most / warm:.2f} times as much; {levels[-1]:.0f} MB at the end"
    )
    sys.exit(any(status >= 500 for status in statuses))


async def send_all(
    started: Running, count: int, seed: int, statuses: Counter[int], levels: list[float]
) -> None:
    """Send so many requests; note each status, and the memory every hundred."""
    dice = random.Random(seed)
    sound = [path.read_bytes() for path in started.pictures[:50]]
    sound += [encoded(PICTURE, kind) for kind in ("PNG", "WEBP", "GIF", "TIFF", "BMP")]
    odd = [content for content, _ in ODD.values()] + [content for content, *_ in BAD.values()]
    workers = [psutil.Process(pid) for pid in children(started.process.pid)]
    left = iter(range(count))

    async def send() -> None:
        async with httpx.AsyncClient(base_url=started.url, timeout=60) as client:
            for number in left:
                answer = await client.post(**malformed(dice, sound, odd))
                statuses[answer.status_code] += 1
                if number % 100 == 0:
                    levels.append(max(each.memory_info().rss for each in workers) / 1e6)

    await asyncio.gather(*(send() for _ in range(CONNECTIONS)))


def malformed(dice: random.Random, sound: list[bytes], odd: list[bytes]) -> dict[str, object]:
    """Return the arguments of a request that is hardly ever right."""
    content = mutated(dice.choice(sound), dice)
    match dice.randrange(20):
        case 0:
            return {"url": "/predict", "files": {"image": dice.choice(odd)}}
        case 1:
            return {
                "url": "/predict",
                "files": {dice.choice(["", "picture", "image\r\n"]): content},
            }
        case 2:
            kind = dice.choice(
                ["multipart/form-data", "multipart/form-data; boundary=x", "image/png"]
            )
            return {"url": "/predict", "content": content, "headers": {"content-type": kind}}
        case 3:
            form = httpx.Request("POST", "http://x", files={"image": content})
            body = mutated(form.read(), dice)
            headers = {"content-type": form.headers["content-type"]}
            return {"url": "/predict", "content": body, "headers": headers}
        case 4:
            files = [
                ("images", mutated(dice.choice(sound), dice)) for _ in range(dice.randrange(5))
            ]
            return {"url": "/predict_batch", "files": files}
        case _:
            return {"url": "/predict", "files": {"image": content}}


if __name__ == "__main__":
    main()
