"""Checkpoints of a running job, kept in a bucket so that another machine can resume it."""

from __future__ import annotations

import logging
import tarfile
import tempfile
import time
from pathlib import Path

from carbench.core.errors import CarbenchError
from carbench.engines.job_run import ATTEMPTS_LOG
from carbench.remote.bucket import Bucket

log = logging.getLogger("carbench")

# Larger checkpoints (of packing many images) take longer to copy than to compute again.
MAX_BYTES = 2_000_000_000
# Seconds between copies, if they are fast. Copying takes at most a tenth of the time.
INTERVAL = 60.0
SHARE = 0.1


class RemoteCheckpoints:
    """Copies the folder of a job's checkpoints to a bucket as it changes.

    Args:
        bucket: where to.
        job: the job's name.
        key: the hash of its inputs.
        folder: the folder, which the job creates.
        interval: seconds between copies.
    """

    def __init__(
        self, bucket: Bucket, job: str, key: str, folder: Path, interval: float = INTERVAL
    ) -> None:
        self._bucket = bucket
        self._job, self._key = job, key
        self._folder = folder
        self._copied: dict[Path, int] = {}
        self.interval = interval

    def restore(self) -> None:
        """Write the checkpoints of the last attempt, on whichever machine, to the folder."""
        with tempfile.TemporaryDirectory() as temporary:
            archive = Path(temporary, "checkpoint.tar")
            if not self._bucket.download_checkpoint(self._job, self._key, archive):
                return
            try:
                with tarfile.open(archive) as tar:
                    tar.extractall(self._folder, filter="data")
            except (tarfile.TarError, OSError) as error:
                log.warning("%s starts again: its checkpoint is damaged (%s)", self._job, error)
                return
        log.info("%s: checkpoints of an earlier attempt restored", self._job)
        self._copied = self._state()

    def save(self) -> None:
        """Copy the folder, if it has changed; an error is logged and does not stop the job."""
        state = self._state()
        if not state or state == self._copied:
            return
        start = time.monotonic()
        try:
            with tempfile.TemporaryDirectory() as temporary:
                archive = Path(temporary, "checkpoint.tar")
                self._pack(archive)
                self._bucket.upload_checkpoint(self._job, self._key, archive)
        except (OSError, tarfile.TarError, CarbenchError) as error:
            log.warning("%s: its checkpoint was not copied: %s", self._job, error)
            return
        self._copied = state
        self.interval = max(self.interval, (time.monotonic() - start) / SHARE)

    def remove(self) -> None:
        """Remove the checkpoints from the bucket, once the job has finished."""
        self._bucket.remove_checkpoint(self._job, self._key)

    def _pack(self, archive: Path) -> None:
        """Write the folder's files to an archive, small ones first.

        A small file may say how much of a large one is valid, which only grows (stage pack).
        """
        with tarfile.open(archive, "w") as tar:
            for path in sorted(self._state(), key=lambda path: path.stat().st_size):
                # Described once it is open: another file may take its name meanwhile.
                with path.open("rb") as file:
                    info = tar.gettarinfo(arcname=str(path.relative_to(self._folder)), fileobj=file)
                    tar.addfile(info, file)

    def _state(self) -> dict[Path, int]:
        """Return the time of change of each file; nothing if there is nothing to copy."""
        files = {path: path.stat() for path in self._folder.rglob("*") if path.is_file()}
        if {path.name for path in files} == {ATTEMPTS_LOG}:
            return {}  # no checkpoint yet
        if sum(found.st_size for found in files.values()) > MAX_BYTES:
            return {}
        return {path: found.st_mtime_ns for path, found in files.items()}
