"""Kill the service under load, and count acknowledged predictions that are missing in its log.

Run in a finished study: `python benchmarks/lost.py --kills 100`. Eight connections send requests
without pauses. At random moments a worker is killed; every tenth time, all processes are killed at
once, and the service is restarted with the same log.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from service_process import children, run_service
from test_serve_kills import ask_and_kill, logged

KILLS_A_START = 9


def main() -> None:
    """Kill, count and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=100)
    args = parser.parse_args()
    acknowledged: list[str] = []
    killed = 0
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "predictions.sqlite"
        while killed < args.kills:
            with run_service(Path.cwd(), "--log", str(log), "--workers", "2") as started:
                kills = min(KILLS_A_START, args.kills - killed - 1)
                asyncio.run(ask_and_kill(started, kills, acknowledged))
                for pid in [started.process.pid, *children(started.process.pid)]:
                    os.kill(pid, signal.SIGKILL)
                started.process.wait()
                killed += kills + 1
        found = logged(log)
    lost = set(acknowledged) - found
    print(
        f"{killed} kills, {len(acknowledged)} acknowledged predictions, {len(lost)} of them lost; "
        f"{len(found) - len(acknowledged) + len(lost)} logged but not acknowledged"
    )
    sys.exit(bool(lost))


if __name__ == "__main__":
    main()
