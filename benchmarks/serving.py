"""Measure the throughput of `carbench serve`, relative to a loop without HTTP.

Run in a finished study, on an idle machine; needs wrk (a Debian package):

    python benchmarks/serving.py --model results/export --images results/data/images

These systems alternate: *bare*, a loop without HTTP in one process per core (decode, resize, ONNX
Runtime); *carbench*, `carbench serve` with one worker per core; *plain*, FastAPI and torch with
default settings (benchmarks/peers/plain_service.py), with one worker and with one per core. The
load generator wrk runs on the same cores and keeps 8 connections open. `--timm NAME` serves that
model with random weights at 224 pixels instead.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from carbench.core.tables import write_json
from carbench.data.images.decoding import decode_resized
from carbench.data.images.formats import SUFFIXES
from carbench.deploy.bundle.exported_model import LABELS, MODEL_JSON, ONNX, REFERENCE
from carbench.deploy.bundle.loading import load_bundle
from carbench.models.onnx_classifier import OnnxModel

HERE = Path(__file__).parent
PORT = 8123
URL = f"http://127.0.0.1:{PORT}"
CORES = len(os.sched_getaffinity(0))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=Path("results/export"))
    parser.add_argument("--images", type=Path, default=Path("results/data/images"))
    parser.add_argument("--timm", help="name of a timm model, with random weights, at 224 pixels")
    parser.add_argument("--int8", action="store_true", help="also carbench with the 8-bit model")
    parser.add_argument("--seconds", type=float, default=10.0, help="duration per measurement")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--connections", type=int, default=8)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if args.timm:
            args.model = export_random(args.timm, folder / "export")
        images = collect(args.images, folder / "images", 200)
        systems = ["bare", "carbench", "plain, 1 worker", f"plain, {CORES} workers"]
        if args.int8:
            systems.insert(2, "carbench, 8 bits")
        rates: dict[str, list[float]] = {system: [] for system in systems}
        latencies: dict[str, list[dict[str, float]]] = {system: [] for system in systems}
        for _ in range(args.repeats):
            for system in systems:
                if system == "bare":
                    rates[system].append(bare(args.model, images, args.seconds))
                    continue
                with serving(system, args.model, folder):
                    ask(images, args.connections, 2)  # warms up
                    found = ask(images, args.connections, args.seconds)
                if found["errors"]:
                    sys.exit(f"{system}: {found['errors']} requests failed")
                rates[system].append(found["requests"] / found["seconds"])
                latencies[system].append(found)
    print(f"{args.timm or args.model}, {CORES} cores, {args.connections} connections")
    print("| system | images per second | relative to bare | p50 ms | p95 ms | p99 ms |")
    print("|---|---|---|---|---|---|")
    for system in systems:
        ratio = statistics.median(
            own / other for own, other in zip(rates[system], rates["bare"], strict=True)
        )
        times = [
            f"{statistics.median(each[key] for each in latencies[system]):.1f}"
            if latencies[system]
            else ""
            for key in ("p50", "p95", "p99")
        ]
        rate = statistics.median(rates[system])
        spread = f"{min(rates[system]):.0f} to {max(rates[system]):.0f}"
        print(f"| {system} | {rate:.0f} ({spread}) | {ratio:.2f} | {' | '.join(times)} |")


def bare(model: Path, images: Path, seconds: float) -> float:
    """Return images per second of a loop that runs in one process per core."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(CORES) as pool:
        pool.map(_loop, [(model, images, 0.5)] * CORES)
        return sum(pool.map(_loop, [(model, images, seconds)] * CORES, chunksize=1))


def _loop(work: tuple[Path, Path, float]) -> float:
    folder, images, seconds = work
    bundle = load_bundle(folder)
    size, fit = bundle.model.size, bundle.model.fit
    contents = [path.read_bytes() for path in sorted(images.iterdir())]
    count, started = 0, time.perf_counter()
    while time.perf_counter() - started < seconds:
        image, _ = decode_resized(contents[count % len(contents)], size, fit)
        bundle.classifier.predict(np.asarray(image)[None])
        count += 1
    return count / (time.perf_counter() - started)


@contextmanager
def serving(system: str, model: Path, folder: Path) -> Iterator[None]:
    """Run a service within the context."""
    environment = dict(os.environ)
    if system.startswith("carbench"):
        command = [sys.executable, "-m", "carbench.cli.main", "serve", "--model", str(model)]
        command += ["--port", str(PORT), "--log", str(folder / "predictions.sqlite")]
        command += ["--int8"] if "8 bits" in system else []
        ready = f"{URL}/readyz"
    else:
        workers = "1" if "1 worker" in system else str(CORES)
        environment |= {"PLAIN_MODEL": str(model.absolute())}
        if workers != "1":
            environment["PLAIN_THREADS"] = "1"
        command = [sys.executable, "-m", "uvicorn", "plain_service:app", "--port", str(PORT)]
        command += ["--app-dir", str(HERE / "peers"), "--workers", workers]
        command += ["--log-level", "warning", "--no-access-log"]
        ready = f"{URL}/openapi.json"
    process = subprocess.Popen(command, env=environment)
    try:
        for _ in range(600):
            try:
                urllib.request.urlopen(ready, timeout=1).read()
                break
            except OSError:
                time.sleep(0.1)
        time.sleep(3)  # the other workers
        yield
    finally:
        process.terminate()
        process.wait()


def ask(images: Path, connections: int, seconds: float) -> dict[str, float]:
    """Run wrk; return its counts, seconds, and latencies in ms (see upload.lua)."""
    done = subprocess.run(
        ["wrk", "-t1", f"-c{connections}", f"-d{seconds:g}s", "-s", HERE / "upload.lua", URL],
        env=os.environ | {"IMAGES": str(images)},
        capture_output=True,
        text=True,
        check=True,
    )
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def collect(source: Path, target: Path, count: int) -> Path:
    """Copy about ``count`` evenly spaced images of a tree into one folder."""
    target.mkdir()
    files = sorted(path for path in source.rglob("*") if path.suffix in SUFFIXES)
    for number, path in enumerate(files[:: max(len(files) // count, 1)][:count]):
        shutil.copy(path, target / f"{number:03d}.jpg")
    return target


def export_random(name: str, folder: Path, size: int = 224, classes: int = 7) -> Path:
    """Export a timm model with random weights, as stage export would."""
    import torch

    from carbench.core.provenance import file_hash
    from carbench.deploy.bundle.observations import observe, write_observations
    from carbench.deploy.export.timm_checkpoint import write_timm_checkpoint
    from carbench.models.backbones import ModelCard, create_model, normalization
    from carbench.models.onnx_export import ExportableModel, write_onnx

    folder.mkdir()
    torch.manual_seed(0)
    names = [f"class {number}" for number in range(classes)]
    model = create_model(name, classes, size).eval()
    card = ModelCard(name, names, size, *normalization(model))
    deployable = ExportableModel(model, card, size, 1.0).eval()
    pixels = np.random.default_rng(0).integers(0, 256, (40, size, size, 3), np.uint8)
    deployable.fit_embedding([pixels])
    write_onnx(deployable, size, names, folder / ONNX)
    write_timm_checkpoint(model, card, "squash", folder)
    write_json(folder / LABELS, names)
    about = {"version": name, "classes": names, "input": {"size": size, "fit": "squash"}}
    write_observations(folder / REFERENCE, observe(OnnxModel(folder / ONNX, 1), [pixels]))
    hashes = {path.name: file_hash(path) for path in sorted(folder.iterdir())}
    write_json(folder / MODEL_JSON, about | {"sha256": hashes})
    return folder


if __name__ == "__main__":
    main()
