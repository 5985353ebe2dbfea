"""Train as timm's training script does: its loaders, transforms, optimiser, schedule and loss.

timm's packages do not contain its `train.py`; this script does the same for these arguments, with
the same functions of the installed timm. The options have the same names and meanings; their
defaults are the recipe with which benchmarks/training.py trains all systems from random
initialisation. There are two differences, both in timm's favour: with a weight average
(--model-ema) only the averaged model is evaluated on val, where train.py evaluates both, and the
optimiser is fused (--opt-kwargs fused=True).
"""

from __future__ import annotations

import argparse
import gc
from collections.abc import Iterable

import torch
from common import accuracy, parser, report, report_epoch, spent
from timm import create_model, utils
from timm.data import Mixup, create_dataset, create_loader, resolve_data_config
from timm.loss import LabelSmoothingCrossEntropy, SoftTargetCrossEntropy
from timm.optim import create_optimizer_v2
from timm.scheduler import create_scheduler_v2
from torch import Tensor, nn

Batches = Iterable[tuple[Tensor, Tensor]]


def options(description: str | None) -> argparse.ArgumentParser:
    """Return a parser with those of train.py's arguments that matter here."""
    made = parser(description)
    add = made.add_argument
    add("--pretrained-path", "--initial-checkpoint", help="initial weights; the head is dropped")
    add("--channels-last", action="store_true")
    add("--amp", action="store_true")
    add("--amp-dtype", choices=["bfloat16"], default="bfloat16")
    add("--weight-decay", type=float, default=0.05)
    add("--opt-eps", type=float)
    add("--layer-decay", type=float)
    add("--clip-grad", type=float, default=1.0)
    add("--warmup-epochs", type=int, default=1)
    add("--warmup-lr", type=float, default=1e-5)
    add("--smoothing", type=float, default=0.1)
    add("--model-ema", action="store_true")
    add("--model-ema-decay", type=float, default=0.9998)
    add("--model-ema-warmup", action="store_true")
    add("--scale", type=float, nargs=2, default=[0.7, 1.0])
    add("--ratio", type=float, nargs=2, default=[0.87, 1.15])
    add("--hflip", type=float, default=0.5)
    add("--color-jitter", type=float, default=0.2)
    add("--reprob", type=float, default=0.0)
    add("--mixup", type=float, default=0.0)
    add("--crop-mode", choices=["squash", "center", "border"], default="squash")
    add("--validation-batch-size", type=int, default=256)
    return made


class Learner:
    """A model, its optimiser and its weight average, created as in train.py."""

    def __init__(self, args: argparse.Namespace, classes: int) -> None:
        self.args = args
        self.layout = torch.channels_last if args.channels_last else torch.contiguous_format
        start = {}
        if args.pretrained_path:
            # With num_classes=-1, timm drops the checkpoint's head whatever its size.
            overlay = {"file": args.pretrained_path, "num_classes": -1}
            start = {"pretrained": True, "pretrained_cfg_overlay": overlay}
        self.model: nn.Module = create_model(args.model, num_classes=classes, **start)
        self.model.to(args.device, memory_format=self.layout)  # type: ignore[call-overload]
        more = {} if args.opt_eps is None else {"eps": args.opt_eps}
        self.optimizer = create_optimizer_v2(
            self.model,
            opt="adamw",
            lr=args.lr,
            weight_decay=args.weight_decay,
            layer_decay=args.layer_decay,
            fused=True,
            **more,
        )
        self.average = (
            utils.ModelEmaV3(self.model, args.model_ema_decay, use_warmup=args.model_ema_warmup)
            if args.model_ema
            else None
        )
        self.mixup = (
            Mixup(mixup_alpha=args.mixup, label_smoothing=args.smoothing, num_classes=classes)
            if args.mixup
            else None
        )
        self.criterion = (
            SoftTargetCrossEntropy() if args.mixup else LabelSmoothingCrossEntropy(args.smoothing)
        )
        self.updates = 0

    @property
    def judged(self) -> nn.Module:
        """The model that is evaluated and kept."""
        return self.average.module if self.average else self.model

    def step(self, images: Tensor, labels: Tensor) -> Tensor:
        """Take a training step on a batch and return its loss."""
        args = self.args
        images, labels = images.to(args.device), labels.to(args.device)
        if self.mixup:
            images, labels = self.mixup(images, labels)
        images = images.contiguous(memory_format=self.layout)
        with torch.autocast(args.device, torch.bfloat16, args.amp):
            loss: Tensor = self.criterion(self.model(images), labels)
        self.optimizer.zero_grad()
        loss.backward()
        utils.dispatch_clip_grad(self.model.parameters(), value=args.clip_grad, mode="norm")
        self.optimizer.step()
        self.updates += 1
        if self.average:
            self.average.update(self.model, step=self.updates)
        return loss

    def accuracy(self, batches: Batches) -> float:
        """Return the fraction of images that the evaluated model classifies correctly."""
        return accuracy(self.judged, batches, self.args.device, self.args.amp, self.layout)


def loader(args: argparse.Namespace, model: nn.Module, part: str, workers: int) -> Batches:
    """Return train.py's loader of a part; that of ``train`` drops the last, incomplete batch."""
    training = part == "train"
    on_gpu = args.device == "cuda"
    config = resolve_data_config({"input_size": (3, args.size, args.size)}, model=model)
    made: Batches = create_loader(
        create_dataset("", root=args.data / part),
        input_size=config["input_size"],
        batch_size=args.batch if training else args.validation_batch_size,
        is_training=training,
        use_prefetcher=on_gpu,
        re_prob=args.reprob,
        re_mode="pixel",
        scale=args.scale,
        ratio=args.ratio,
        hflip=args.hflip,
        color_jitter=args.color_jitter,
        interpolation="random" if training else config["interpolation"],
        mean=config["mean"],
        std=config["std"],
        crop_pct=1.0,
        crop_mode=args.crop_mode,
        num_workers=workers,
        pin_memory=on_gpu,
        device=torch.device(args.device),
    )
    return made


def main() -> None:
    """Train, print every epoch, and test the best epoch on val."""
    args = options(__doc__).parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    utils.random_seed(args.seed, 0)
    learner = Learner(args, len(list((args.data / "train").iterdir())))
    train, val = (loader(args, learner.model, part, args.workers) for part in ("train", "val"))
    updates = len(train)  # type: ignore[arg-type]
    scheduler, _ = create_scheduler_v2(
        learner.optimizer,
        sched="cosine",
        num_epochs=args.epochs,
        # In such a short training run, train.py would never leave the warm-up.
        warmup_epochs=min(args.warmup_epochs, args.epochs // 2),
        warmup_lr=args.warmup_lr,
        step_on_epochs=False,
        updates_per_epoch=updates,
    )
    best, kept = -1.0, {}
    for epoch in range(args.epochs):
        learner.model.train()
        for step, (images, labels) in enumerate(train):
            learner.step(images, labels)
            scheduler.step_update(epoch * updates + step + 1)
        found = learner.accuracy(val)
        if found > best:
            state = learner.judged.state_dict()
            best, kept = found, {name: value.clone() for name, value in state.items()}
        report_epoch(epoch + 1, found)
    # Workers live as long as their loaders, and are only counted exactly after they have exited.
    del train, val
    gc.collect()
    costs = spent()
    learner.judged.load_state_dict(kept)
    report(costs, learner.accuracy(loader(args, learner.model, "test", args.workers)))


if __name__ == "__main__":
    main()
