"""Kill jobs and engines at random moments, and compare the results with an undisturbed run.

Run from the repository's root: `python benchmarks/kills.py --kills 200`. A study of the smoke
preset is started repeatedly by one engine or the other, and SIGKILL is sent to the engine, to one
of its jobs, or to all of them. After each kill the next run follows at once, without a manual
unlock. When a run completes, all reproducible results are compared byte by byte with the
undisturbed run, neither engine may have anything left to do, and a new study begins.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import psutil

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from carbench.engines.engine_jobs import dvc_plan, snakemake_plan  # noqa: E402
from carbench.params.presets import apply_preset  # noqa: E402
from conftest import Project, active_environment, copy_repository, repeatable  # noqa: E402

ENGINES = {
    "snakemake": ("snakemake", "--cores", "2", "--quiet", "progress"),
    "dvc": ("dvc", "repro"),
}
VICTIMS = ("engine", "job", "all")
# DVC truncates two files before it writes them: .dvc/tmp/rwlock and dvc.lock. If it is killed in
# between, it refuses to run until `snakemake` or `carbench sync` has repaired them.
CUT_SHORT = re.compile(r"Unable to read RWLock-file|dvc\.lock' validation failed|dvc\.lock', YAML")


def run_and_kill(project: Project, engine: str, rng: random.Random) -> tuple[str, str]:
    """Start an engine and kill it or a job at a random moment; return the victim and the output.

    The victim is "" if the engine exited before.
    """
    with tempfile.TemporaryFile("w+") as output:
        process = psutil.Popen(
            ENGINES[engine],
            cwd=project.root,
            env=active_environment(),
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        victim = rng.choice(VICTIMS)
        # Long enough for a job or two, so that a study is finished after some kills.
        moment = time.monotonic() + rng.uniform(0.3, 9.0)
        while time.monotonic() < moment and process.poll() is None:
            time.sleep(0.02)
        victim = _kill(process, victim, rng) if process.poll() is None else ""
        process.wait(300)
        output.seek(0)
        return victim, output.read()


def _kill(process: psutil.Popen, victim: str, rng: random.Random) -> str:
    jobs = [
        child
        for child in process.children(recursive=True)
        if any("scripts/" in word for word in _words(child)) and "python" in _words(child)[0]
    ]
    if victim == "job" and jobs:
        rng.choice(jobs).kill()
    elif victim == "all":
        os.killpg(process.pid, signal.SIGKILL)
    else:
        victim = "engine"
        process.kill()
    return victim


def _words(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline() or [""]
    except psutil.Error:
        return [""]


def finish(project: Project, engine: str) -> None:
    """Run an engine undisturbed until it is done; exit with its output if it fails."""
    done = project.run(*ENGINES[engine], check=False)
    if CUT_SHORT.search(done.stderr):
        project.run("carbench", "sync")
        done = project.run(*ENGINES[engine], check=False)
    if done.returncode:
        sys.exit(f"{engine} failed after the kills:\n{done.stdout[-3000:]}{done.stderr[-3000:]}")


def forget(project: Project) -> None:
    """Wait for orphaned jobs to exit, then remove results, caches and records."""
    here = str(project.root.resolve())
    while any(process.info["cwd"] == here for process in psutil.process_iter(["cwd"])):
        time.sleep(0.2)
    for name in (".carbench", ".snakemake", ".dvc/cache", ".dvc/tmp"):
        shutil.rmtree(project.root / name, ignore_errors=True)
    (project.root / "dvc.lock").unlink(missing_ok=True)
    for child in (project.root / "results").iterdir():
        if child.name != ".gitignore":
            shutil.rmtree(child) if child.is_dir() else child.unlink()


def problems(project: Project, expected: dict[str, object]) -> list[str]:
    """Return everything that differs from an undisturbed run."""
    found = repeatable(project)
    wrong = [name for name in expected if found.get(name) != expected[name]]
    wrong += [name for name in found if name not in expected]
    if left := snakemake_plan(project.root):
        wrong.append(f"left to snakemake: {sorted(left)}")
    if left := dvc_plan(project.root):
        wrong.append(f"left to dvc: {sorted(left)}")
    return wrong


def kills(counts: Counter[str]) -> int:
    """Return the number of kills; their keys have the form `engine: victim`."""
    return sum(count for name, count in counts.items() if ": " in name)


def main() -> None:
    """Kill and compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0, help="seed of moments and victims")
    arguments = parser.parse_args()
    rng = random.Random(arguments.seed)
    counts: Counter[str] = Counter()
    studies = 0
    with tempfile.TemporaryDirectory() as folder:
        project = copy_repository(Path(folder) / "study")
        (project.root / "params.yaml").write_text(apply_preset(ROOT / "presets/smoke.yaml"))
        project.run("git", "commit", "--quiet", "--all", "--message=smoke")
        finish(project, "snakemake")
        expected = repeatable(project)
        while kills(counts) < arguments.kills:
            forget(project)
            ended = False
            while not ended and kills(counts) < arguments.kills:
                engine = rng.choice(list(ENGINES))
                victim, said = run_and_kill(project, engine, rng)
                ended = not victim
                if CUT_SHORT.search(said):
                    counts["a truncated DVC file"] += 1
                    project.run("carbench", "sync")
                    ended = False
                    continue
                if victim:
                    counts[f"{engine}: {victim}"] += 1
                if ended and "Traceback" in said:
                    sys.exit(f"{engine} failed with a traceback, without a kill:\n{said[-4000:]}")
            finish(project, rng.choice(list(ENGINES)))
            studies += 1
            finish(project, "snakemake")
            if wrong := problems(project, expected):
                sys.exit(f"after {dict(counts)}: {wrong[:20]}")
            print(f"{kills(counts)} kills, {studies} studies completed and identical", flush=True)
    print(f"{dict(counts)}; {studies} studies, each identical to the undisturbed one")


if __name__ == "__main__":
    main()
