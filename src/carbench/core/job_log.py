"""The log of a job: on stderr, and in a file that keeps all attempts with the same inputs.

The file is opened only when the job's lock is held, as another process may be running the job.
Until then, lines are buffered. Snakemake removes the file before each attempt; the log therefore
has a second name next to the job's checkpoints, to which the file is a hard link.
"""

from __future__ import annotations

import logging
import sys
from contextlib import suppress
from logging.handlers import MemoryHandler
from pathlib import Path

BUFFERED_LINES = 1000
OFF = logging.CRITICAL + 1


class JobLog:
    """The handlers of a process's log; created once.

    Args:
        prefix: beginning of each line.
        path: the file; None: only stderr.
    """

    def __init__(self, prefix: str, path: Path | None) -> None:
        self._path = path
        self._followed = False
        self._buffer: MemoryHandler | None = MemoryHandler(BUFFERED_LINES, OFF)
        logging.raiseExceptions = False  # ignore errors of writing the log file
        logging.basicConfig(
            format=f"{prefix}: %(message)s",
            handlers=[logging.StreamHandler(sys.stderr), self._buffer],
        )
        logging.getLogger("carbench").setLevel(logging.INFO)
        logging.captureWarnings(True)

    def follow(self, attempts: Path) -> None:
        """Show the log of the process that runs the job until this one may open it.

        Args:
            attempts: that process's log of all attempts.
        """
        if self._path and attempts.exists():
            with suppress(OSError):
                _link(self._path, attempts)
                self._followed = True

    def open(self, attempts: Path | None = None) -> None:
        """Write the buffered and all further lines to the file; without effect if it is open.

        Args:
            attempts: the log of all attempts, which is continued.
        """
        if self._buffer is None:
            return
        buffer, self._buffer = self._buffer, None
        root = logging.getLogger()
        root.removeHandler(buffer)
        if self._path:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            if attempts:
                attempts.parent.mkdir(parents=True, exist_ok=True)
                # The process that ran the job has removed its checkpoints if it succeeded.
                if not attempts.exists() and self._followed:
                    with suppress(OSError):
                        attempts.hardlink_to(self._path)
                attempts.touch()
                with suppress(OSError):  # another file system: only the log of this attempt
                    _link(self._path, attempts)
            else:
                self._path.unlink(missing_ok=True)
            file = logging.FileHandler(self._path, encoding="utf-8")
            file.setFormatter(buffer.formatter)
            root.addHandler(file)
            buffer.setTarget(file)
        buffer.close()


def _link(path: Path, target: Path) -> None:
    """Make a path another name of a file; a file that it names loses this name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    path.hardlink_to(target)
