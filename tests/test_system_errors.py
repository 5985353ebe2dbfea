"""A full disk is one sentence with the place and the fix, whichever library met it."""

from __future__ import annotations

import errno
import resource
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from carbench.core.system_errors import explain_system_error
from conftest import ROOT


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        OSError(errno.EDQUOT, "Disk quota exceeded", "/tmp/x"),
        RuntimeError("PytorchStreamWriter failed writing file data/3: file write failed"),
        sqlite3.OperationalError("database or disk is full"),
    ],
)
def test_a_full_disk_is_told_with_its_place_and_a_fix(error: Exception, tmp_path: Path) -> None:
    told = explain_system_error(error, [tmp_path / "not/made"])
    assert told
    assert "Fix: make room" in told
    assert "MB are free there" in told


def test_the_cause_counts_too() -> None:
    try:
        try:
            raise OSError(errno.ENOSPC, "No space left on device")
        except OSError as cause:
            raise ValueError("header cannot be written") from cause
    except ValueError as error:
        assert "the disk is full" in str(explain_system_error(error, []))


def test_other_errors_stay_what_they_are() -> None:
    assert explain_system_error(ValueError("a bug"), []) is None
    told = explain_system_error(PermissionError(errno.EACCES, "Permission denied", "/x"), [])
    assert told == "/x: Permission denied"


def test_a_stage_that_may_not_write_on_says_so_and_leaves_no_output(
    study: Callable[..., Path], tmp_path: Path
) -> None:
    output = tmp_path / "data"
    done = subprocess.run(
        [sys.executable, "scripts/fetch.py", "--params", study({}), "--output", output],
        cwd=ROOT,
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000)),
        check=False,
    )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "a file would be larger than allowed" in done.stderr
    assert str(tmp_path) in done.stderr
    assert not list(output.glob("*"))
