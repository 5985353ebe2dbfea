"""Writes the pack: decodes and resizes images on all cores and writes them sequentially.

The array is written as a plain file. The pages of a memory map would count as memory of the
process; this way, 100,000 images take as much memory as 1,000. A killed run resumes from its last
checkpoint.
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
from carbench.data.images.decoding import decode_resized
from carbench.data.pack.reading import ARRAY
from carbench.params.pack import PackParams

log = logging.getLogger("carbench")

# Maximum size of the packed images that wait to be written.
MAX_QUEUED_BYTES = 64_000_000
# Images per task of a process.
CHUNK = 20
# Images between checkpoints; a multiple of CHUNK.
CHECKPOINT_IMAGES = 2000


def write_array(
    folder: Path, images: Sequence[Path], params: PackParams, scratch: Path | None
) -> int:
    """Write ``images.npy``: (N, size, size, 3) uint8, RGB, in the order of ``images``.

    Args:
        folder: where to write it.
        images: files that fetch has accepted.
        params: size and fit.
        scratch: a folder for this pack, on the same disk, that survives a killed run; None: do not
            resume.

    Returns:
        The size of the file in bytes.
    """
    row_bytes = params.size * params.size * 3
    work_folder = scratch or folder
    work_folder.mkdir(parents=True, exist_ok=True)
    draft, checkpoint = work_folder / ARRAY, work_folder / "safe.json"
    done = _completed_rows(draft, checkpoint) if scratch else 0
    if done:
        log.info("resuming after %s images", f"{done:,}")

    with draft.open("r+b" if done else "wb") as file:
        shape = (len(images), params.size, params.size, 3)
        header = {"descr": "|u1", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        file.seek(done * row_bytes, os.SEEK_CUR)
        file.truncate()
        chunks = [images[start : start + CHUNK] for start in range(done, len(images), CHUNK)]
        ahead = max(4, MAX_QUEUED_BYTES // (CHUNK * row_bytes))
        packed = process_map(partial(_pack_chunk, params), chunks, ahead)
        row = done
        for pixels in progress(packed, "pack", len(chunks)):
            file.write(pixels)
            row += len(pixels) // row_bytes
            if scratch and row % CHECKPOINT_IMAGES == 0:
                file.flush()
                os.fsync(file.fileno())
                write_atomic(checkpoint, json.dumps({"rows": row}))
        size = file.tell()
    if work_folder != folder:
        shutil.move(draft, folder / ARRAY)
    return size


def _pack_chunk(params: PackParams, paths: Sequence[Path]) -> bytes:
    """Return the pixels of some images, decoded and resized."""
    resized = (decode_resized(path.read_bytes(), params.size, params.fit)[0] for path in paths)
    return b"".join(image.tobytes() for image in resized)


def _completed_rows(draft: Path, checkpoint: Path) -> int:
    """Return the number of rows that the checkpoint of a killed run guarantees."""
    try:
        return int(json.loads(checkpoint.read_text())["rows"]) if draft.exists() else 0
    except (OSError, ValueError):
        return 0
