"""timm's training script, restated: its loaders, transforms, optimiser, schedule and loss.

timm's packages do not hold its `train.py`; this is what that script does with these arguments, from
the same functions of the installed timm: --opt adamw --weight-decay 0.05 --sched cosine
--warmup-epochs 1 --smoothing 0.1 --clip-grad 1.0 --scale 0.7 1.0 --ratio 0.87 1.15
--color-jitter 0.2, and --amp on a GPU.
"""

from __future__ import annotations

import gc

import torch
from common import accuracy, arguments, report, spent
from timm import create_model, utils
from timm.data import create_dataset, create_loader, resolve_data_config
from timm.loss import LabelSmoothingCrossEntropy
from timm.optim import create_optimizer_v2
from timm.scheduler import create_scheduler_v2

args = arguments(__doc__)
on_gpu = args.device == "cuda"
utils.random_seed(args.seed, 0)
classes = len([each for each in (args.data / "train").iterdir() if each.is_dir()])
model = create_model(args.model, num_classes=classes).to(args.device)
if on_gpu:
    model = model.to(memory_format=torch.channels_last)
config = resolve_data_config({"input_size": (3, args.size, args.size)}, model=model)


def loader(part: str, training: bool) -> object:
    """As train.py makes its two loaders."""
    return create_loader(
        create_dataset("", root=args.data / part),
        input_size=config["input_size"],
        batch_size=args.batch,
        is_training=training,
        use_prefetcher=on_gpu,
        scale=[0.7, 1.0],
        ratio=[0.87, 1.15],
        hflip=0.5,
        color_jitter=0.2,
        interpolation="random" if training else config["interpolation"],
        mean=config["mean"],
        std=config["std"],
        crop_pct=1.0,
        crop_mode="squash",
        num_workers=args.workers,
        pin_memory=on_gpu,
        device=torch.device(args.device),
    )


train, val = loader("train", True), loader("val", False)
optimizer = create_optimizer_v2(model, opt="adamw", lr=args.lr, weight_decay=0.05)
updates = len(train)
scheduler, epochs = create_scheduler_v2(
    optimizer,
    sched="cosine",
    num_epochs=args.epochs,
    warmup_epochs=1 if args.epochs > 1 else 0,
    warmup_lr=1e-5,
    step_on_epochs=False,
    updates_per_epoch=updates,
)
criterion = LabelSmoothingCrossEntropy(smoothing=0.1).to(args.device)
best, kept = -1.0, {}
for epoch in range(args.epochs):
    model.train()
    losses = utils.AverageMeter()
    for step, (pictures, labels) in enumerate(train):
        if not on_gpu:
            pictures, labels = pictures.to(args.device), labels.to(args.device)
        else:
            pictures = pictures.contiguous(memory_format=torch.channels_last)
        with torch.autocast(args.device, torch.bfloat16, on_gpu):
            loss = criterion(model(pictures), labels)
        optimizer.zero_grad()
        loss.backward()
        utils.dispatch_clip_grad(model.parameters(), value=1.0, mode="norm")
        optimizer.step()
        scheduler.step_update(epoch * updates + step + 1)
        if step % 50 == 0:
            losses.update(loss.item(), len(labels))
    found = accuracy(model, val, args.device)
    if found > best:
        best, kept = found, {name: value.clone() for name, value in model.state_dict().items()}
    print(f"epoch {epoch + 1}: loss {losses.avg:.3f}, val {found:.3f}")
# Its workers live as long as the loaders; they are counted when they have ended.
del train, val
gc.collect()
costs = spent()
model.load_state_dict(kept)
report(costs, accuracy(model, loader("test", False), args.device))
