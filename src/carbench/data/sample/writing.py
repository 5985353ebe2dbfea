"""Puts a planned sample on disk: drawn images first, by several processes, then their copies."""

from __future__ import annotations

import io
import zlib
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

from PIL import Image

from carbench.core.parallel import available_cores
from carbench.data.sample.film import jpeg
from carbench.data.sample.image import draw_shot
from carbench.data.sample.planted import ODD_KINDS, Planted, plan
from carbench.data.sample.rng import Dice
from carbench.data.sample.styles import CLASSES
from carbench.data.sample.variants import changed_copy

_WORTH_A_PROCESS = 120  # images; starting a process costs as much as drawing about that many
_VARIANT_KEY = 100  # keeps the rng of changed copies apart from those of drawn images

Job = tuple[str, str]  # a path and how the image is stored there: "plain" or one of ODD_KINDS


def draw_sample(
    root: Path, images_per_class: int, seed: int, *, workers: int | None = None
) -> Planted:
    """Writes root/train/<class>/<nnnn>.jpg and root/test/... and returns what was planted.

    The same seed gives the same bytes for any number of `workers` (default: the cores this process
    may use). More than one worker starts processes by "spawn": call it from a script whose main
    part is guarded, or with workers=1.
    """
    planted = plan(images_per_class, seed)
    for folder in sorted({Path(path).parent for path in planted.files}):
        (root / folder).mkdir(parents=True, exist_ok=True)
    copies = planted.exact_copies + planted.near_copies
    copied = {copy.copy for copy in copies}
    odd = {path: kind for kind in ODD_KINDS for path in getattr(planted, kind)}
    jobs = [(path, odd.get(path, "plain")) for path in planted.files if path not in copied]
    _draw_all(root, jobs, seed, available_cores() if workers is None else workers)
    for copy in copies:
        data = (root / copy.original).read_bytes()
        if copy.transform != "exact":
            style, number = _key(copy.copy)
            data = changed_copy(data, copy.transform, Dice(seed, _VARIANT_KEY + style, number))
        (root / copy.copy).write_bytes(data)
    return planted


def _draw_all(root: Path, jobs: list[Job], seed: int, workers: int) -> None:
    workers = min(workers, len(jobs) // _WORTH_A_PROCESS, 16)
    if workers <= 1:
        _draw_some(root, jobs, seed)
        return
    # Every n-th image each: classes take different times to draw.
    shares = [jobs[k::workers] for k in range(workers)]
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        for future in [pool.submit(_draw_some, root, share, seed) for share in shares]:
            future.result()


def _draw_some(root: Path, jobs: list[Job], seed: int) -> None:
    for path, kind in jobs:
        style, number = _key(path)
        (root / path).write_bytes(_stored(path, kind, seed, style, number))


def _key(path: str) -> tuple[int, int]:
    """Class index and image number of a path; train and test images never share a number."""
    split, name, file = path.split("/")
    return CLASSES.index(name), 2 * int(file.removesuffix(".jpg")) + (split == "test")


def _stored(path: str, kind: str, seed: int, style: int, number: int) -> bytes:
    """The bytes of one drawn file."""
    if kind == "empty":
        return b""
    if kind == "text":
        return f"<html><title>404</title>Not found: {path}</html>\n".encode()
    shot = draw_shot(seed, style, number)
    if kind == "truncated":
        data = shot.jpeg()
        scan = data.index(b"\xff\xda")
        return data[: (scan + len(data)) // 2]
    if kind == "png":
        return _png(shot.image)
    if kind == "palette":
        return _png(shot.image.quantize(64, dither=Image.Dither.NONE))
    if kind == "greyscale":
        return jpeg(shot.image.convert("L"), shot.quality)
    if kind == "rotated":
        exif = Image.Exif()
        exif[0x0112] = 6  # orientation: to be shown turned a quarter clockwise
        lying = shot.image.transpose(Image.Transpose.ROTATE_90)
        return jpeg(lying, shot.quality, exif=exif.tobytes())
    return shot.jpeg()


def _png(image: Image.Image) -> bytes:
    out = io.BytesIO()
    # No search for matches: its result differs between builds of zlib.
    image.save(out, "PNG", compress_type=zlib.Z_HUFFMAN_ONLY)
    return out.getvalue()
