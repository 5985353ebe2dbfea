"""Measure the overhead of supporting both engines: no-op runs of small and large studies.

Run from the repository's root: `python benchmarks/engines.py --jobs 8 100 1000`. For each number of
training runs, a copy of the repository gets a study of that size, with small placeholder outputs
and job records as if every job had run. Then commands with nothing to do are timed, alternating,
several times each: `snakemake` with and without the sync, `carbench sync --check` and, with --dvc,
`dvc status`. Prints medians and ranges of CPU seconds, and peak memory.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from ruamel.yaml import YAML

from carbench.core.provenance import hardware
from carbench.engines.job_records import JobRecord, save_record
from carbench.engines.sync import job_statuses, open_workspace, sync_to_dvc

ROOT = Path(__file__).parents[1]


def copy_repository(root: Path) -> None:
    """Copy the repository without results and caches, into a git repository of its own."""
    ignore = shutil.ignore_patterns(
        *(".git", ".venv", ".snakemake", ".carbench", "results", "*cache", "dvc.lock")
    )
    shutil.copytree(ROOT, root, symlinks=True, ignore=ignore)
    (root / "results").mkdir()
    (root / ".dvc/config.local").write_text("[core]\n    site_cache_dir = .dvc/tmp/site\n")
    subprocess.run(["git", "init", "--quiet"], cwd=root, check=True)


def make_study(root: Path, trainings: int) -> int:
    """Create a finished study in the copy in ``root``; return its number of jobs."""
    seeds = 2 if trainings <= 8 else 10
    yaml = YAML(typ="safe")
    yaml.default_flow_style = False
    params = yaml.load((ROOT / "presets/sample.yaml").read_text())
    models = list(params["backbones"].values())
    names = list(params["backbones"])
    count = trainings // seeds
    params["backbones"] = {
        (names[i] if count == len(names) else f"{names[i % 4]}-{i}"): models[i % 4]
        for i in range(count)
    }
    params["seeds"] = list(range(seeds))
    yaml.dump(params, root / "params.yaml")

    before = Path.cwd()
    os.chdir(root)
    try:
        workspace = open_workspace(Path())
        for job in workspace.jobs.values():
            for path in job.outs:
                place = Path(path)
                if path == "results/data/images":
                    place.mkdir(parents=True)
                    for number in range(1800):
                        (place / f"{number}.jpg").write_bytes(f"{number}".encode() * 1000)
                else:
                    place.parent.mkdir(parents=True, exist_ok=True)
                    place.write_text(f"{path}\n" * 20)
            inputs = workspace.inputs_of(job)
            assert inputs is not None, job.name
            outs = {path: workspace.hashes.content(path) for path in job.outs}
            record = JobRecord(job.name, inputs, outs)
            save_record(Path(), record)
            workspace.assume(record)
            if "--log" in job.command:
                log = Path(job.command.split("--log ")[1])
                log.parent.mkdir(parents=True, exist_ok=True)
                log.touch()
        done = open_workspace(Path())
        sync_to_dvc(done, job_statuses(done))
        return len(done.jobs)
    finally:
        os.chdir(before)


def timed(command: list[str], root: Path) -> tuple[float, float, float]:
    """Run a command; return CPU seconds, wall seconds and peak memory in MB."""
    started = time.perf_counter()
    process = subprocess.Popen(
        ["/usr/bin/env", "bash", "-c", f"{' '.join(command)} > last.log 2>&1"], cwd=root
    )
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - started
    if status:
        sys.exit(f"{' '.join(command)} failed: {(root / 'last.log').read_text()[-2000:]}")
    return usage.ru_utime + usage.ru_stime, wall, usage.ru_maxrss / 1024


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, nargs="+", default=[8, 100], help="training runs")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--dvc", action="store_true", help="also time `dvc status` (slow)")
    arguments = parser.parse_args()
    print(json.dumps(hardware()))
    for trainings in arguments.jobs:
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder) / "study"
            copy_repository(root)
            jobs = make_study(root, trainings)
            plain = (
                (root / "Snakefile").read_text().replace('include: "workflow/rules/sync.smk"\n', "")
            )
            (root / "Snakefile.plain").write_text(plain)
            commands = {
                "snakemake": ["snakemake"],
                "snakemake without sync": ["snakemake", "--snakefile", "Snakefile.plain"],
                "carbench sync --check": ["carbench", "sync", "--check"],
            }
            if arguments.dvc:
                commands["dvc status"] = ["dvc", "status"]
            profile = ["--profile", "profiles/default"]
            commands["snakemake without sync"] += profile
            taken: dict[str, list[tuple[float, float, float]]] = {name: [] for name in commands}
            for name, command in commands.items():
                timed(command, root)  # warm-up: hashes and records are written
                assert "nothing to be done" in (root / "last.log").read_text().lower() or (
                    not name.startswith("snakemake")
                ), (root / "last.log").read_text()[-3000:]
            for _ in range(arguments.repeats):
                for name, command in commands.items():
                    taken[name].append(timed(command, root))
            print(f"\n{trainings} training runs, {jobs} jobs")
            for name, runs in taken.items():
                cpu, wall, memory = zip(*runs, strict=True)
                print(
                    f"{name:26} {statistics.median(cpu):6.2f} CPU s "
                    f"({min(cpu):.2f} to {max(cpu):.2f}), {statistics.median(wall):6.2f} wall s, "
                    f"{max(memory):5.0f} MB"
                )


if __name__ == "__main__":
    main()
