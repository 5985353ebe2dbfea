"""A stage's process exits fast, after exit handlers, buffered output and threads."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from conftest import ROOT, active_environment

SCRIPT = """
import atexit, sys, tempfile, threading, time
from concurrent.futures import ThreadPoolExecutor
from operator import neg
from pathlib import Path
from carbench.core.errors import CarbenchError
from carbench.core.parallel import process_map
from carbench.core.stage import log, run_stage, stage_parser

place = Path(sys.argv.pop())

class Deallocated:
    def __del__(self):
        (place / "deallocated").touch()

loaded = Deallocated()
kept = tempfile.TemporaryDirectory(dir=place, prefix="temporary")
pool = ThreadPoolExecutor(1)

def late():
    time.sleep(0.3)
    (place / "thread").touch()

def work(stage):
    atexit.register(lambda: (place / "atexit").touch())
    assert list(process_map(neg, range(9), 4)) == [*range(0, -9, -1)]
    print("x" * 100_000, end="")
    log.info("the last line")
    WORK

if __name__ == "__main__":
    run_stage(stage_parser(None), work)
"""


@pytest.fixture
def run_stage_script(study: Callable[..., Path], tmp_path: Path) -> Callable[..., set[str]]:
    """Run a stage that ends with some code; return the files that it leaves."""

    def run(work: str, status: int, *runner: str) -> set[str]:
        script, place = tmp_path / "script.py", tmp_path / "place"
        script.write_text(SCRIPT.replace("WORK", work))
        place.mkdir()
        done = subprocess.run(
            [
                sys.executable,
                *runner,
                script,
                "--params",
                study(),
                "--log",
                tmp_path / "log",
                place,
            ],
            env=active_environment() | {"PYTHONPATH": str(ROOT / "src")},
            capture_output=True,
            text=True,
        )
        assert done.returncode == status, done.stderr
        assert "x" * 100_000 in done.stdout
        assert "the last line" in (tmp_path / "log").read_text()
        assert (tmp_path / "log").read_text() == done.stderr
        return {path.name for path in place.iterdir()}

    return run


@pytest.mark.parametrize(
    ("work", "status"),
    [
        ("pass", 0),
        ("raise CarbenchError('a', found='b', expected='c', fix='d')", 1),
        ("raise KeyboardInterrupt", 130),
        ("raise TypeError", 70),
    ],
)
def test_exit_handlers_run_but_modules_are_not_deallocated(
    run_stage_script: Callable[..., set[str]], work: str, status: int
) -> None:
    assert run_stage_script(work, status) == {"atexit"}


@pytest.mark.parametrize("start", ["threading.Thread(target=late).start()", "pool.submit(late)"])
def test_running_threads_are_waited_for(
    run_stage_script: Callable[..., set[str]], start: str
) -> None:
    assert run_stage_script(start, 0) == {"atexit", "thread", "deallocated"}


def test_a_profiler_can_write_its_output(
    run_stage_script: Callable[..., set[str]], tmp_path: Path
) -> None:
    assert "atexit" in run_stage_script(
        "pass", 0, "-m", "cProfile", "-o", str(tmp_path / "profile")
    )
    assert (tmp_path / "profile").stat().st_size
