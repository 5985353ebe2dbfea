"""All that is to be measured on a GPU, in one command and a bounded time.

Run in the repository's root: `python benchmarks/gpu.py --output FOLDER`. It needs no network, no
data and no weights: torch, torchvision, timm, numpy, pillow, pydantic, ruamel.yaml, tqdm,
safetensors and psutil; with nvidia-ml-py it also reads the driver's utilisation. Rows are measured
in the order of what they are worth, printed and written as they come (`gpu.md` and `gpu.json`); one
that fails or does not fit into `--seconds` says why. `--device cpu --tiny` runs all of it in small.
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
    parser.add_argument("--output", type=Path, required=True, help="a folder for gpu.md, gpu.json")
    parser.add_argument("--seconds", type=float, default=540, help="to be done in")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cuda")
    parser.add_argument("--tiny", action="store_true", help="small models and sizes: a trial")
    args = parser.parse_args()
    started = time.monotonic()
    lacking = [name for name in NEEDED if importlib.util.find_spec(name.split(".")[0]) is None]
    if lacking:
        sys.exit(f"benchmarks/gpu.py needs {', '.join(lacking)}: install these packages first")
    # Not before it is known that all of it can be imported.
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
