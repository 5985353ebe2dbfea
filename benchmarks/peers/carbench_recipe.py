"""Pack and train with carbench on the peers' folders, without the engines, decoding included."""

from __future__ import annotations

import logging
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from common import accuracy, parser, report, spent

from carbench.data.loading.batches import Normalizer, PackedImages
from carbench.data.pack.writing import write_array
from carbench.models.backbones import create_model, normalization
from carbench.models.devices import move_to_device, set_up_device
from carbench.params.pack import PackParams
from carbench.params.presets import read_preset
from carbench.params.train import TrainParams
from carbench.training.loop import LabelledImages, fit

PRESET = Path(__file__).parents[2] / "presets/kaggle-cars.yaml"


def main() -> None:
    """Pack, train, and test the best epoch on val."""
    args = parser(__doc__).parse_args()
    logging.basicConfig(stream=sys.stdout, level=logging.INFO, format="%(message)s")
    changes = {"image_size": args.size, "epochs": args.epochs, "batch_size": args.batch}
    changes |= {"lr": args.lr, "device": args.device, "backbone_lr_scale": 1.0, "ema": 0.0}
    changes |= {"freeze_epochs": 0, "warmup_epochs": 1.0 if args.epochs > 1 else 0.0}
    default = TrainParams.model_validate(read_preset(PRESET)["train"])
    plain = default.augment.model_copy(update={"mixup": 0.0})
    params = default.model_copy(update={**changes, "augment": plain})
    files = sorted(path for path in args.data.glob("*/*/*") if path.is_file())
    classes = sorted({path.parent.name for path in files})
    with tempfile.TemporaryDirectory() as folder:
        pack = Path(folder)
        write_array(pack, files, PackParams(size=args.size * 8 // 7, fit="squash"), None)
        # After packing, which forks processes: CUDA does not survive a fork.
        device = set_up_device(params, "train")
        torch.manual_seed(args.seed)

        def part(name: str) -> LabelledImages:
            own = [row for row, path in enumerate(files) if path.parts[-3] == name]
            labels = [classes.index(files[row].parent.name) for row in own]
            images = PackedImages(pack, np.array(own), device)
            return LabelledImages(images, torch.tensor(labels, device=device))

        model = move_to_device(
            create_model(args.model, len(classes), params.image_size), device, params.channels_last
        )
        normalize = Normalizer(*normalization(model), device, params.channels_last)
        trained = fit(model, part("train"), part("val"), normalize, params, args.seed)
        costs = spent()
        model.load_state_dict(trained.tensors)
        test = part("test")
        batches = torch.arange(len(test.images)).split(params.val_batch_size)
        shown = map(normalize, test.images.whole_images(batches, args.size))
        labels = test.labels.split(params.val_batch_size)
        report(costs, accuracy(model, zip(shown, labels, strict=True), args.device))


if __name__ == "__main__":
    main()
