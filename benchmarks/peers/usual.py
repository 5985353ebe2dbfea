"""Train with a usual PyTorch script: PIL and torchvision decode and augment every image again."""

from __future__ import annotations

import timm
import torch
from common import accuracy, parser, report, report_epoch, spent
from torch import nn
from torch.utils.data import DataLoader
from torchvision import datasets, transforms

args = parser(__doc__).parse_args()
if args.threads:
    torch.set_num_threads(args.threads)
torch.manual_seed(args.seed)
normalize = transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
changed = transforms.Compose(
    [
        transforms.RandomResizedCrop(args.size, scale=(0.7, 1.0), ratio=(0.87, 1.15)),
        transforms.RandomHorizontalFlip(),
        transforms.ColorJitter(brightness=0.2, contrast=0.2),
        transforms.ToTensor(),
        normalize,
    ]
)
upright = transforms.Compose(
    [transforms.Resize((args.size, args.size)), transforms.ToTensor(), normalize]
)
sets = {
    part: datasets.ImageFolder(args.data / part, changed if part == "train" else upright)
    for part in ("train", "val", "test")
}
loaders = {
    part: DataLoader(
        each,
        args.batch,
        shuffle=part == "train",
        num_workers=args.workers,
        drop_last=part == "train",
    )
    for part, each in sets.items()
}
model = timm.create_model(args.model, num_classes=len(sets["train"].classes)).to(args.device)
criterion = nn.CrossEntropyLoss(label_smoothing=0.1)
optimizer = torch.optim.AdamW(model.parameters(), lr=args.lr, weight_decay=0.05)
scheduler = torch.optim.lr_scheduler.OneCycleLR(
    optimizer, args.lr, epochs=args.epochs, steps_per_epoch=len(loaders["train"])
)
best, kept = -1.0, {}
for epoch in range(args.epochs):
    model.train()
    for images, labels in loaders["train"]:
        optimizer.zero_grad()
        loss = criterion(model(images.to(args.device)), labels.to(args.device))
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        scheduler.step()
    found = accuracy(model, loaders["val"], args.device)
    if found > best:
        best, kept = found, {name: value.clone() for name, value in model.state_dict().items()}
    report_epoch(epoch + 1, found)
costs = spent()
model.load_state_dict(kept)
report(costs, accuracy(model, loaders["test"], args.device))
