"""Fills the pack: images decoded and resized on all cores, written one after the other.

Written as a plain file, not through a memory map, whose pages would count as this process's memory:
100,000 images take as much of it as 1,000. A killed run goes on where it was last safe on disk.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from carbench.core.atomic import write_atomic
from carbench.core.parallel import process_map
from carbench.core.progress import progress
from carbench.data.images.decoding import shrink
from carbench.data.pack.files import ARRAY
from carbench.params.pack import PackParams

log = logging.getLogger("carbench")

# Packed images that wait to be written, at most.
WAITING_BYTES = 64_000_000
# Images that a process takes at a time.
CHUNK = 20
# Images between two points that a killed run goes on from; a multiple of that.
SAFE_EVERY = 2000


def write_array(
    folder: Path, images: Sequence[Path], params: PackParams, scratch: Path | None
) -> int:
    """Write ``images.npy``: (N, size, size, 3) uint8, RGB, in the order of ``images``.

    Args:
        folder: where to write it.
        images: files that fetch has accepted.
        params: size and fit.
        scratch: a folder on the same disk that outlives a kill and is of this pack alone; None:
            start anew each time.

    Returns:
        The array's bytes.
    """
    row_bytes = params.size * params.size * 3
    workplace = scratch or folder
    workplace.mkdir(parents=True, exist_ok=True)
    draft, marks = workplace / ARRAY, workplace / "safe.json"
    done = _safe_rows(draft, marks) if scratch else 0
    if done:
        log.info("going on after %s images", f"{done:,}")

    with draft.open("r+b" if done else "wb") as file:
        shape = (len(images), params.size, params.size, 3)
        header = {"descr": "|u1", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        file.seek(done * row_bytes, os.SEEK_CUR)
        file.truncate()
        some = [images[start : start + CHUNK] for start in range(done, len(images), CHUNK)]
        ahead = max(4, WAITING_BYTES // (CHUNK * row_bytes))
        packed = process_map(partial(_pixels, params), some, ahead)
        row = done
        for pixels in progress(packed, "pack", len(some)):
            file.write(pixels)
            row += len(pixels) // row_bytes
            if scratch and row % SAFE_EVERY == 0:
                file.flush()
                os.fsync(file.fileno())
                write_atomic(marks, json.dumps({"rows": row}))
        size = file.tell()
    if workplace != folder:
        shutil.move(draft, folder / ARRAY)
    return size


def _pixels(params: PackParams, paths: Sequence[Path]) -> bytes:
    """Decode and resize some images."""
    shrunk = (shrink(path.read_bytes(), params.size, params.fit)[0] for path in paths)
    return b"".join(image.tobytes() for image in shrunk)


def _safe_rows(draft: Path, marks: Path) -> int:
    """How many rows of a killed run's array are on disk for certain."""
    try:
        return int(json.loads(marks.read_text())["rows"]) if draft.exists() else 0
    except (OSError, ValueError):
        return 0
