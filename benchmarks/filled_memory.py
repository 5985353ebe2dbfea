"""Compare training steps with and without torch's filling of new memory with NaN.

`python benchmarks/filled_memory.py`: one thread, batches of 32 random images, AdamW, random
weights; runs with and without alternate. Prints the CPU seconds of a step without it as multiples
of those with it, median and range, and whether the weights have the same bits.
"""

from __future__ import annotations

import argparse
import hashlib
import statistics
import time

import timm
import torch
from torch.nn import functional

from carbench.models.devices import move_to_device, set_up_device, without_filling_memory
from carbench.params.compute import ComputeSection

MODELS = ["resnet18", "tf_efficientnet_lite0", "mobilenetv3_large_100", "convnext_atto"]
BATCH = 32
CLASSES = 7


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="+", default=MODELS, metavar="NAME")
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--steps", type=int, default=4, help="steps per run; the first is left out")
    parser.add_argument("--repeats", type=int, default=7)
    args = parser.parse_args()
    set_up_device(ComputeSection(device="cpu", threads=1, batch_size=BATCH), "train")
    print("| model | CPU seconds | same bits |\n|---|---|---|")
    for name in args.models:
        ratios, same = [], True
        for _ in range(args.repeats):
            filled, weights = train(name, args.size, args.steps)
            with without_filling_memory():
                unfilled, others = train(name, args.size, args.steps)
            ratios.append(unfilled / filled)
            same = same and weights == others
        cell = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        print(f"| {name} | {cell} | {'yes' if same else 'no'} |", flush=True)


def train(name: str, size: int, steps: int) -> tuple[float, str]:
    """Train some steps; return the median CPU seconds of a step, and a hash of the weights."""
    torch.manual_seed(0)
    model = timm.create_model(name, num_classes=CLASSES)
    model = move_to_device(model, torch.device("cpu")).train()
    images = torch.rand(BATCH, 3, size, size).contiguous(memory_format=torch.channels_last)
    labels = torch.arange(BATCH) % CLASSES
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3, fused=True)
    seconds = []
    for _ in range(steps):
        started = time.process_time()
        optimizer.zero_grad()
        functional.cross_entropy(model(images), labels).backward()
        optimizer.step()
        seconds.append(time.process_time() - started)
    digest = hashlib.sha256()
    for tensor in model.state_dict().values():
        digest.update(tensor.numpy().tobytes())
    return statistics.median(seconds[1:]), digest.hexdigest()


if __name__ == "__main__":
    main()
