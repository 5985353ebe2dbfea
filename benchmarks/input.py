"""Compare whole training steps with a ceiling: the same steps on a constant batch.

Run from the repository's root: `python benchmarks/input.py`, on a GPU with `--device cuda --size
224 --batch 128`. A whole step gathers images from the pack, crops, resamples, changes colours and
normalises, then does forward, backward, clipping and optimiser; the ceiling only does the last
four. Rounds of both alternate. `--stream` reads images from the memory map instead of the device's
memory.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from functools import partial
from pathlib import Path

from steps import MODELS, clock, labelled, make_ceiling, make_trainer, pack, rounds

from carbench.core.params import read_section
from carbench.data.loading import batches as packed
from carbench.models.devices import set_up_device
from carbench.params.train import TrainParams


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--size", type=int, default=48)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--steps", type=int, default=20, help="steps per round")
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--stream", action="store_true")
    args = parser.parse_args()
    if args.stream:
        packed.RESIDENT_BYTES, packed.RESIDENT_FRACTION = 0, 0.0
    params = read_section(Path("presets/sample.yaml"), "train", TrainParams).model_copy(
        update={
            "image_size": args.size,
            "batch_size": args.batch,
            "device": args.device,
            "epochs": args.repeats + 1,
        }
    )
    device = set_up_device(params, "train")

    print("| backbone | images per second | ceiling | fraction of the ceiling |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        count = args.steps * args.batch
        rows = pack(Path(folder), count, args.size + args.size // 8)
        images = labelled(Path(folder), rows, device)
        for name in MODELS[args.device]:
            trainer = make_trainer(name, images, params)
            ceiling = make_ceiling(trainer, images, params)
            now = partial(clock, device)
            both = list(rounds(trainer, ceiling, args.steps, args.repeats, now))
            real, best = (statistics.median(each) for each in zip(*both, strict=True))
            ratios = [two / one for one, two in both]
            print(
                f"| {name} | {count / real:,.0f} | {count / best:,.0f} | "
                f"{statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f}) |",
                flush=True,
            )


if __name__ == "__main__":
    main()
