"""Measure whole training runs of carbench and timm in separate processes, on generated JPEGs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from measuring import ROOT, Row
from PIL import Image
from probes import watched

SCRIPTS = {"carbench": "carbench_recipe.py", "timm": "timm_recipe.py"}
# Beginnings of the lines that report an epoch: carbench's and timm's.
EPOCH = ("epoch ", '{"epoch": ')
# Tenths of the images in each part.
PARTS = {"train": 8, "val": 1, "test": 1}
WIDTH, HEIGHT = 640, 480


def write_jpegs(folder: Path, count: int, classes: int) -> None:
    """Write images of smooth colours with some noise, as ``folder/part/class/number.jpg``.

    Every part contains every class.
    """
    parts = [part for part, share in PARTS.items() for _ in range(share)]
    # All share the same noise, shifted: drawing it takes longer than writing a file.
    noise = np.random.default_rng(0).integers(-12, 13, (HEIGHT, WIDTH, 3), np.int16)

    def write(number: int) -> None:
        rng = np.random.default_rng(number)
        coarse = Image.fromarray(rng.integers(0, 256, (9, 12, 3), np.uint8))
        smooth = np.asarray(coarse.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC), np.int16)
        noisy = smooth + np.roll(noise, number, axis=(0, 1))
        part = parts[number // classes % len(parts)]
        path = folder / part / f"class{number % classes}" / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(path, quality=85)

    with ThreadPoolExecutor() as pool:
        list(pool.map(write, range(max(count, classes * len(parts)))))


def by_recipe(system: str, data: Path, options: Mapping[str, object], device: torch.device) -> Row:
    """Run one of the scripts in peers/ and return its costs.

    The times at which epochs end are those of the lines that it prints.

    Raises:
        RuntimeError: the script failed; with the end of its output.
    """
    script = ROOT / "benchmarks/peers" / SCRIPTS[system]
    command = [sys.executable, "-u", str(script), str(data)]
    command += [str(word) for key, value in options.items() for word in (f"--{key}", value)]
    if system == "timm":  # options that its users would set; carbench's defaults
        command += ["--channels-last", *["--amp"] * (device.type == "cuda")]
    env = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT / "src"), *sys.path])}
    ends: list[float] = []
    lines: list[str] = []
    with (
        watched(device) as busy,
        subprocess.Popen(
            command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as process,
    ):
        try:
            for line in process.stdout or []:
                lines.append(line)
                if line.startswith(EPOCH):
                    ends.append(time.monotonic())
        finally:
            process.kill()  # it has exited, or the time limit is reached
    try:
        found = json.loads(lines[-1])
    except (IndexError, json.JSONDecodeError):
        raise RuntimeError("".join(lines)[-300:] or "no output") from None
    trained = len(list(data.glob("train/*/*.jpg")))
    later = (len(ends) - 1) * trained / (ends[-1] - ends[0]) if len(ends) > 1 else float("nan")
    return {
        "images": trained,
        "epochs": options["epochs"],
        "wall s": round(found["wall"], 1),
        "CPU s": round(found["cpu"], 1),
        "images/s, whole process": round(int(str(options["epochs"])) * trained / found["wall"], 1),
        "images/s after epoch 1, with val": round(later, 1),
        "CPU %": round(100 * found["cpu"] / found["wall"]),
        "GPU busy %": str(busy),
    }
