"""Compare alternatives in a training step with the default, for each backbone.

Run from the repository's root, on an idle machine: `python benchmarks/choices.py`. The sample's
recipe on random images; rounds of the default and of the alternative alternate. Prints the
alternative's CPU seconds (on a GPU, wall seconds) as multiples of the default's, with median and
range, and for two threads also the wall seconds.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from steps import MODELS, labelled, make_trainer, pack

from carbench.core.params import read_section
from carbench.models.devices import set_up_device
from carbench.params.train import TrainParams
from carbench.training.loop import Trainer

CHOICES: list[tuple[str, dict[str, Any]]] = [
    ("precision: bfloat16", {"precision": "bfloat16"}),
    ("channels_last: false", {"channels_last": False}),
    ("fused: false", {"fused": False}),
    ("threads: 2", {"threads": 2}),
    ("compile: true", {"compile": True}),
]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--size", type=int, default=48)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--steps", type=int, default=10, help="steps per round")
    parser.add_argument("--repeats", type=int, default=7)
    args = parser.parse_args()
    changes = {"image_size": args.size, "batch_size": args.batch, "device": args.device}
    changes |= {"epochs": 10_000, "precision": "float32"}
    default = read_section(Path("presets/sample.yaml"), "train", TrainParams).model_copy(
        update=changes
    )
    device = set_up_device(default, "train")
    names = list(MODELS[args.device])
    print("| choice | " + " | ".join(names) + " |\n|---|" + "---|" * len(names))
    with tempfile.TemporaryDirectory() as folder:
        count = args.steps * args.batch
        rows = pack(Path(folder), count, args.size + args.size // 8)
        inputs = labelled(Path(folder), rows, device)

        def seconds(one: Trainer, params: TrainParams, epoch: int) -> tuple[float, float]:
            torch.set_num_threads(params.threads)
            cpu, wall = time.process_time(), time.perf_counter()
            one.train_epoch(epoch)
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            return time.process_time() - cpu, time.perf_counter() - wall

        for label, change in CHOICES:
            other = default.model_copy(update=change)
            cells, first = [], []
            for name in names:
                pair = [(make_trainer(name, inputs, each), each) for each in (default, other)]
                first.append(seconds(*pair[1], 0)[1])
                seconds(*pair[0], 0)
                rounds = [
                    [seconds(*each, repeat + 1) for each in pair] for repeat in range(args.repeats)
                ]
                kind = 0 if args.device == "cpu" else 1
                ratios = [two[kind] / one[kind] for one, two in rounds]
                cell = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
                if "threads" in change:
                    walls = [two[1] / one[1] for one, two in rounds]
                    cell += f", wall {statistics.median(walls):.2f}"
                if change.get("compile"):
                    cell += f", first epoch {first[-1]:.0f} s"
                cells.append(cell)
            print(f"| `{label}` | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
