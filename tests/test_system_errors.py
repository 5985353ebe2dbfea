"""A full disk is reported with the folder and the fix, whichever library raised the error."""

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
def test_a_full_disk_is_reported_with_free_space_and_a_fix(
    error: Exception, tmp_path: Path
) -> None:
    message = explain_system_error(error, [tmp_path / "not/made"])
    assert message
    assert "Fix: free disk space" in message
    assert "MB are free there" in message


def test_the_cause_of_an_error_is_considered() -> None:
    try:
        try:
            raise OSError(errno.ENOSPC, "No space left on device")
        except OSError as cause:
            raise ValueError("header cannot be written") from cause
    except ValueError as error:
        assert "the disk is full" in str(explain_system_error(error, []))


def test_other_errors_are_not_explained_as_a_full_disk() -> None:
    assert explain_system_error(ValueError("a bug"), []) is None
    error = RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be reported later")
    assert "let fewer jobs share the GPU" in str(explain_system_error(error, []))
    message = explain_system_error(PermissionError(errno.EACCES, "Permission denied", "/x"), [])
    assert message == "/x: Permission denied"


def test_a_stage_that_exceeds_the_file_size_limit_reports_it_and_leaves_no_output(
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
