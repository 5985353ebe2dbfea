"""Take training steps on request, for benchmarks/step_cost.py.

A process runs one system, carbench or timm, with one model. For each line of its standard input, a
JSON object (threads; for timm also workers and amp), it takes one epoch of steps, including the
reading of images, and prints the CPU and wall seconds.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import spent

Round = Callable[[dict[str, Any]], None]


def carbench(argv: list[str]) -> tuple[Round, str]:
    """Return a function that takes carbench's steps, and the precision that it uses."""
    from carbench.data.loading.batches import Normalizer, PackedImages
    from carbench.models.backbones import create_model, normalization
    from carbench.models.devices import move_to_device, set_up_device
    from carbench.params.train import TrainParams
    from carbench.training.loop import LabelledImages, Trainer

    parser = argparse.ArgumentParser()
    parser.add_argument("pack", type=Path)
    parser.add_argument("images", type=Path, help="JSON: rows of the pack and class indices")
    parser.add_argument("--model", required=True)
    parser.add_argument("--recipe", required=True, help="the section train, as JSON")
    args = parser.parse_args(argv)
    params = TrainParams.model_validate_json(args.recipe)
    device = set_up_device(params, "train")
    rows, labels = json.loads(args.images.read_text())
    torch.manual_seed(0)
    model = move_to_device(
        create_model(args.model, max(labels) + 1, params.image_size), device, params.channels_last
    )
    mean, std = normalization(model)
    images = LabelledImages(
        PackedImages(args.pack, np.array(rows), device), torch.tensor(labels, device=device)
    )
    normalize = Normalizer(mean, std, device, params.channels_last)
    trainer = Trainer(model, images, normalize, params, 0)
    epochs = iter(range(params.epochs))

    def steps(setting: dict[str, Any]) -> None:
        torch.set_num_threads(setting["threads"])
        trainer.train_epoch(next(epochs))

    return steps, trainer.precision


def timm(argv: list[str]) -> tuple[Round, str]:
    """Return a function that takes timm's steps; its precision is part of the setting."""
    from timm_recipe import Batches, Learner, loader, options

    args = options(None).parse_args(argv)
    torch.manual_seed(0)
    learner = Learner(args, len(list((args.data / "train").iterdir())))
    learner.model.train()
    loaders: dict[int, Batches] = {}

    def steps(setting: dict[str, Any]) -> None:
        torch.set_num_threads(setting["threads"])
        args.amp = setting["amp"]
        workers = setting["workers"]
        if workers not in loaders:
            loaders[workers] = loader(args, learner.model, "train", workers)
        for images, labels in loaders[workers]:
            learner.step(images, labels)

    return steps, ""


def settings() -> Iterator[dict[str, Any]]:
    """Yield the settings on standard input."""
    for line in sys.stdin:
        yield json.loads(line)


def main() -> None:
    """Take rounds of steps until the input ends."""
    system = {"carbench": carbench, "timm": timm}[sys.argv[1]]
    steps, precision = system(sys.argv[2:])
    print(json.dumps({"precision": precision}), flush=True)
    for setting in settings():
        before = spent()
        steps(setting)
        if torch.cuda.is_initialized():
            torch.cuda.synchronize()
        after = spent()
        print(json.dumps({key: after[key] - before[key] for key in after}), flush=True)


if __name__ == "__main__":
    main()
