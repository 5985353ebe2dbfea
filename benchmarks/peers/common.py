"""What the peers' scripts share: their command line, and what they report of themselves."""

from __future__ import annotations

import argparse
import json
import resource
import time
from pathlib import Path

import psutil
import torch
from torch import nn


def arguments(description: str | None) -> argparse.Namespace:
    """The recipe that all systems train with."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("data", type=Path, help="a folder with train, val and test")
    parser.add_argument("--model", required=True)
    parser.add_argument("--lr", type=float, required=True)
    parser.add_argument("--epochs", type=int, required=True)
    parser.add_argument("--size", type=int, required=True)
    parser.add_argument("--batch", type=int, required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--workers", type=int, required=True)
    parser.add_argument("--device", default="cpu")
    return parser.parse_args()


def spent() -> dict[str, float]:
    """Wall and CPU seconds of this process, its imports and its ended workers."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return {
        "wall": time.time() - psutil.Process().create_time(),
        "cpu": sum(each.ru_utime + each.ru_stime for each in used),
    }


@torch.inference_mode()
def accuracy(model: nn.Module, batches: object, device: str = "cpu") -> float:
    """The part of the pictures that a model names right."""
    model.eval()
    right = total = 0
    for pictures, labels in batches:  # type: ignore[attr-defined]
        right += (model(pictures.to(device)).argmax(1).cpu() == labels.cpu()).sum().item()
        total += len(labels)
    return right / total


def report(costs: dict[str, float], test_accuracy: float) -> None:
    """Print the result as the last line."""
    print(json.dumps({**costs, "accuracy": test_accuracy}))
