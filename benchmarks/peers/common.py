"""The command line and the reported costs that all peers' scripts share."""

from __future__ import annotations

import argparse
import json
import resource
import time
from collections.abc import Iterable
from pathlib import Path

import psutil
import torch
from torch import Tensor, nn


def parser(description: str | None) -> argparse.ArgumentParser:
    """Return a parser with the arguments that all peers share."""
    made = argparse.ArgumentParser(description=description)
    made.add_argument("data", type=Path, help="a folder with train, val and test")
    made.add_argument("--model", required=True)
    made.add_argument("--lr", type=float, required=True)
    made.add_argument("--epochs", type=int, required=True)
    made.add_argument("--size", type=int, required=True)
    made.add_argument("--batch", type=int, required=True)
    made.add_argument("--seed", type=int, required=True)
    made.add_argument("--workers", type=int, required=True)
    made.add_argument("--threads", type=int, default=0, help="of torch; 0: its default")
    made.add_argument("--device", default="cpu")
    return made


def spent() -> dict[str, float]:
    """Return wall and CPU seconds of this process so far, including imports and workers."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    cpu = sum(each.ru_utime + each.ru_stime for each in used)
    process = psutil.Process()
    for worker in process.children(recursive=True):  # RUSAGE_CHILDREN covers only exited ones
        times = worker.cpu_times()
        cpu += times.user + times.system
    return {"wall": time.time() - process.create_time(), "cpu": cpu}


@torch.inference_mode()
def accuracy(
    model: nn.Module,
    batches: Iterable[tuple[Tensor, Tensor]],
    device: str = "cpu",
    amp: bool = False,
    layout: torch.memory_format = torch.contiguous_format,
) -> float:
    """Return the fraction of images that a model classifies correctly."""
    model.eval()
    right = total = 0
    for images, labels in batches:
        with torch.autocast(device, torch.bfloat16, amp):
            logits = model(images.to(device).contiguous(memory_format=layout))
        right += int((logits.argmax(1).cpu() == labels.cpu()).sum())
        total += len(labels)
    return right / total


def report_epoch(epoch: int, val_accuracy: float) -> None:
    """Print an epoch's accuracy on val and the costs so far, as JSON."""
    print(json.dumps({"epoch": epoch, "val_accuracy": val_accuracy, **spent()}), flush=True)


def report(costs: dict[str, float], test_accuracy: float) -> None:
    """Print the result as the last line."""
    print(json.dumps({**costs, "accuracy": test_accuracy}))
