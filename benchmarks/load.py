"""Measure throughput and latency of `carbench serve` by number of users, with locust.

Run in a finished study: `make load`. Starts the service, or uses the one at `--url`, for example in
a container. Lets 1, 2, 4, ... users send requests without pauses, and prints a table. Users and
service share the cores.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from contextlib import nullcontext
from pathlib import Path

from serving import CORES, URL, collect, serving

from carbench.core.tables import read_table


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=Path("results/export"))
    parser.add_argument("--images", type=Path, default=Path("results/data/images"))
    parser.add_argument("--users", type=int, nargs="+", default=[1, 2, 4, 8, 16, 32, 64, 128])
    parser.add_argument("--seconds", type=int, default=10, help="for each number of users")
    parser.add_argument("--url", help="of a service that runs already, instead of --model")
    args = parser.parse_args()
    print(f"{args.url or args.model}, {CORES} cores, {args.seconds} s each")
    print("| users | responses per second | p50 ms | p95 ms | p99 ms | rejected (503) |")
    print("|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        images = collect(args.images, folder / "images", 200)
        service = nullcontext() if args.url else serving("carbench", args.model, folder)
        with service:
            url = args.url or URL
            ask(url, images, folder / "warm", 2, 3)
            for users in args.users:
                found = ask(url, images, folder / f"{users}", users, args.seconds)
                refused = float(found["Failure Count"])
                answered = float(found["Request Count"]) - refused
                times = [f"{float(found[key]):.0f}" for key in ("50%", "95%", "99%")]
                share = 100 * refused / max(float(found["Request Count"]), 1)
                rate = answered / args.seconds
                print(f"| {users} | {rate:.0f} | {' | '.join(times)} | {share:.1f} % |", flush=True)


def ask(url: str, images: Path, prefix: Path, users: int, seconds: int) -> dict[str, str]:
    """Run locust, and return its row for all requests."""
    done = subprocess.run(
        [
            *(sys.executable, "-m", "locust", "--headless", "--host", url),
            *("-f", str(Path(__file__).with_name("locustfile.py")), "--only-summary"),
            *("--users", str(users), "--spawn-rate", str(max(users, 10))),
            *("--run-time", f"{seconds}s", "--csv", str(prefix), "--exit-code-on-error", "0"),
        ],
        env=os.environ | {"IMAGES": str(images)},
        capture_output=True,
        text=True,
    )
    if done.returncode:
        sys.exit(done.stderr[-4000:])
    rows = read_table(Path(f"{prefix}_stats.csv"), ["Name"])
    return next(row for row in rows if row["Name"] == "Aggregated")


if __name__ == "__main__":
    main()
