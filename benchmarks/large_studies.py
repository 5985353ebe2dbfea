"""Measure what each job of a large study costs beside its work.

Run from the repository's root:

    python benchmarks/large_studies.py --trainings 10 100 1000 --command 'snakemake --cores 2'

For each number of training runs, a copy of the repository gets a finished study of that size with
small placeholder outputs (as in benchmarks/engines.py). The script of stage `train` is replaced by
one that only writes these outputs, which makes all training runs stale, and the command runs them.
Everything but the training itself is real: planning, submitting, locks, hashes, records, the cache
and dvc.lock. Prints, per number of jobs, the CPU seconds of the main process of Snakemake and of
the jobs that it waited for, its peak memory, and the size of the files that grow with the study.
"""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

from carbench.core.provenance import hardware
from carbench.engines.dvc_yaml import read_jobs
from engines import copy_repository, make_study

# Writes what make_study() has written, so that no stage downstream becomes stale.
STAND_IN = '''"""Stand-in for train: writes placeholders."""

from pathlib import Path

from carbench.core.stage import Stage, run_stage, stage_parser


def train(stage: Stage) -> None:
    folder = stage.args.output
    with stage.outputs(folder) as out:
        for name in ("model.safetensors", "val.csv", "history.csv", "provenance.json"):
            (out / name).write_text(f"{(folder / name).as_posix()}\\n" * 20)


if __name__ == "__main__":
    parser = stage_parser(__doc__)
    for option in ("--backbone", "--seed", "--pack", "--split", "--weights", "--tune"):
        parser.add_argument(option)
    parser.add_argument("--output", type=Path)
    run_stage(parser, train)
'''


@dataclass(frozen=True)
class Cost:
    """CPU seconds of the main process and of the jobs that it waited for, wall seconds, MB."""

    main: float
    jobs: float
    wall: float
    memory: float


def measure(words: list[str], root: Path) -> Cost:
    """Run a command; its last line is printed if it fails."""
    started = time.perf_counter()
    with (root / "last.log").open("w") as log:
        process = psutil.Popen(words, cwd=root, stdout=log, stderr=subprocess.STDOUT)
    times, memory = process.cpu_times(), 0
    while process.poll() is None:
        try:
            times = process.cpu_times()
            memory = max(memory, process.memory_info().rss)
        except psutil.Error:
            break
        time.sleep(0.1)
    if process.wait():
        sys.exit(f"{shlex.join(words[:6])} failed: {(root / 'last.log').read_text()[-3000:]}")
    return Cost(
        times.user + times.system,
        times.children_user + times.children_system,
        time.perf_counter() - started,
        memory / 1e6,
    )


def prepare(root: Path, trainings: int) -> list[str]:
    """Create a study whose training runs are all stale; return an output of each."""
    copy_repository(root)
    make_study(root, trainings)
    (root / "scripts/train.py").write_text(STAND_IN)
    return [job.outs[0] for job in read_jobs(root).values() if job.stage == "train"]


def count_files(folder: Path) -> int:
    """Return the number of files below a folder."""
    return sum(path.is_file() for path in folder.rglob("*"))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--trainings", type=int, nargs="+", default=[10, 100])
    parser.add_argument("--command", default="snakemake --cores 2", help="runs the training runs")
    arguments = parser.parse_args()
    print(json.dumps(hardware()))
    print(f"`{arguments.command}`, one run each\n")
    print(
        "| jobs | jobs of the study | main process, CPU s | per job | jobs, CPU s | per job "
        "| wall s | peak MB | plan, CPU s | dvc.lock MB | files in .carbench | in .snakemake |"
    )
    print("|" + "---|" * 12)
    for trainings in arguments.trainings:
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder) / "study"
            targets = prepare(root, trainings)
            cost = measure([*shlex.split(arguments.command), *targets], root)
            plan = measure(["snakemake", "-n", "--quiet"], root)
            lock = (root / "dvc.lock").stat().st_size / 1e6
            count = len(targets)
            print(
                f"| {count:,} | {len(read_jobs(root)):,} | {cost.main:.1f} "
                f"| {cost.main / count:.2f} | {cost.jobs:.1f} | {cost.jobs / count:.2f} "
                f"| {cost.wall:.1f} | {cost.memory:.0f} | {plan.main:.1f} | {lock:.1f} "
                f"| {count_files(root / '.carbench'):,} | {count_files(root / '.snakemake'):,} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
