"""Take all GPU measurements with one command, in a limited time.

Run from the repository's root: `python benchmarks/gpu.py --output FOLDER`. It needs no network,
data or weights, only torch, torchvision, timm, numpy, pillow, pydantic, ruamel.yaml, tqdm,
safetensors and psutil; with nvidia-ml-py it also reads the utilisation reported by the driver.
The most important rows come first; each is printed and written to `gpu.md` and `gpu.json` when it
is measured. A row that fails or does not fit into `--seconds` gives the reason. `--device cpu
--tiny` tries everything out on a CPU.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "src"))
NEEDED = (
    *("torch", "torchvision", "timm", "numpy", "PIL", "pydantic", "ruamel.yaml", "tqdm"),
    *("safetensors", "psutil"),
)


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, required=True, help="folder for gpu.md, gpu.json")
    parser.add_argument("--seconds", type=float, default=540, help="time limit")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cuda")
    parser.add_argument("--tiny", action="store_true", help="small models and images, as a trial")
    args = parser.parse_args()
    started = time.monotonic()
    lacking = [name for name in NEEDED if importlib.util.find_spec(name.split(".")[0]) is None]
    if lacking:
        sys.exit(f"benchmarks/gpu.py needs {', '.join(lacking)}: install these packages first")
    # Imported after the check above, so that missing packages are listed together.
    from gpu_jobs import SMALL, USUAL, all_jobs, prepared
    from measuring import Report, run
    from probes import environment

    sizes = SMALL if args.tiny else USUAL
    device, params = prepared(args.device, sizes)
    args.output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        report = Report(args.output, environment(device))
        jobs = all_jobs(Path(folder), device, params, sizes)
        run(jobs, report, args.seconds - (time.monotonic() - started))
    print("\n" + report.markdown())


if __name__ == "__main__":
    main()
