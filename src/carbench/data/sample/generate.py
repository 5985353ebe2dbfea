"""Generates the sample: renders the images in several processes, then makes their copies."""

from __future__ import annotations

import io
import zlib
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

from PIL import Image

from carbench.core.parallel import available_cores
from carbench.data.sample.body_styles import CLASSES
from carbench.data.sample.camera_effects import encode_jpeg
from carbench.data.sample.faults import FAULT_KINDS, PlantedFaults, plan_faults
from carbench.data.sample.near_copies import make_near_copy
from carbench.data.sample.render import render_image
from carbench.data.sample.rng import PortableRng

_IMAGES_PER_PROCESS = 120  # starting a process takes as long as rendering about this many
_COPY_KEY = 100  # separates the generators of near copies from those of rendered images

FileJob = tuple[str, str]  # a path, and "plain" or one of FAULT_KINDS


def generate_sample(
    root: Path, images_per_class: int, seed: int, *, workers: int | None = None
) -> PlantedFaults:
    """Write root/train/<class>/<nnnn>.jpg and root/test/...; return the planted faults.

    The same seed gives the same bytes with any number of `workers` (default: the number of cores
    that this process may use). More than one worker starts processes with "spawn": call it from a
    script with a guarded main part, or with workers=1.
    """
    planted = plan_faults(images_per_class, seed)
    for folder in sorted({Path(path).parent for path in planted.files}):
        (root / folder).mkdir(parents=True, exist_ok=True)
    copies = planted.exact_copies + planted.near_copies
    copied = {copy.copy for copy in copies}
    odd = {path: kind for kind in FAULT_KINDS for path in getattr(planted, kind)}
    jobs = [(path, odd.get(path, "plain")) for path in planted.files if path not in copied]
    _generate_all(root, jobs, seed, available_cores() if workers is None else workers)
    for copy in copies:
        data = (root / copy.original).read_bytes()
        if copy.transform != "exact":
            style, number = _image_key(copy.copy)
            data = make_near_copy(
                data, copy.transform, PortableRng(seed, _COPY_KEY + style, number)
            )
        (root / copy.copy).write_bytes(data)
    return planted


def _generate_all(root: Path, jobs: list[FileJob], seed: int, workers: int) -> None:
    workers = min(workers, len(jobs) // _IMAGES_PER_PROCESS, 16)
    if workers <= 1:
        _generate_files(root, jobs, seed)
        return
    # Interleaved, because classes take different times to render.
    shares = [jobs[k::workers] for k in range(workers)]
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        for future in [pool.submit(_generate_files, root, share, seed) for share in shares]:
            future.result()


def _generate_files(root: Path, jobs: list[FileJob], seed: int) -> None:
    for path, kind in jobs:
        style, number = _image_key(path)
        (root / path).write_bytes(_file_content(path, kind, seed, style, number))


def _image_key(path: str) -> tuple[int, int]:
    """Return the class index and number of an image; numbers are unique across train and test."""
    split, name, file = path.split("/")
    return CLASSES.index(name), 2 * int(file.removesuffix(".jpg")) + (split == "test")


def _file_content(path: str, kind: str, seed: int, style: int, number: int) -> bytes:
    """Return the content of a file."""
    if kind == "empty":
        return b""
    if kind == "text":
        return f"<html><title>404</title>Not found: {path}</html>\n".encode()
    rendered = render_image(seed, style, number)
    if kind == "truncated":
        data = rendered.jpeg()
        scan = data.index(b"\xff\xda")
        return data[: (scan + len(data)) // 2]
    if kind == "png":
        return _encode_png(rendered.image)
    if kind == "palette":
        return _encode_png(rendered.image.quantize(64, dither=Image.Dither.NONE))
    if kind == "greyscale":
        return encode_jpeg(rendered.image.convert("L"), rendered.quality)
    if kind == "rotated":
        exif = Image.Exif()
        exif[0x0112] = 6  # orientation: to be rotated by 90 degrees clockwise
        rotated = rendered.image.transpose(Image.Transpose.ROTATE_90)
        return encode_jpeg(rotated, rendered.quality, exif=exif.tobytes())
    return rendered.jpeg()


def _encode_png(image: Image.Image) -> bytes:
    out = io.BytesIO()
    # No search for matches, which differs between builds of zlib.
    image.save(out, "PNG", compress_type=zlib.Z_HUFFMAN_ONLY)
    return out.getvalue()
