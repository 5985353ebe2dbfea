"""evaluate: predict the test images with one model, and compute metrics of the predictions.

Writes ``predictions.csv`` (one row per test image with all probabilities), ``robustness.csv``
(predictions for corrupted versions of the clean images), ``mistakes.csv`` and ``explanations.npz``
(the most confident errors, and attribution maps of them), and ``metrics.json`` (all metrics, for
the clean images, for the leaked images if there are any, and for all images).
"""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from carbench.core.arrays import write_arrays
from carbench.core.errors import CarbenchError
from carbench.core.stage import Stage, log, run_stage, stage_parser
from carbench.core.tables import write_json, write_rows, write_table
from carbench.data.pack.reading import read_index
from carbench.data.split.table import read_split
from carbench.evaluation.confident_errors import most_confident_errors
from carbench.evaluation.metrics import measure, measure_calibration
from carbench.evaluation.slices import group_by_slice
from carbench.models.model_file import read_metadata
from carbench.models.prediction_table import prediction_columns, prediction_rows, winner_rows
from carbench.params.evaluate import EvaluateParams

IMAGE = ("leaked", "width", "height")
ROBUSTNESS = ("image", "group", "class", "corruption", "predicted")
MISTAKES = ("image", "class", "group", "predicted", "confidence")


def evaluate(stage: Stage) -> None:
    # Imported after the parameters are validated: torch and timm take seconds.
    import torch

    from carbench.data.loading.batches import Normalizer, PackedImages
    from carbench.models.backbones import load_trained_model
    from carbench.models.devices import set_up_device
    from carbench.models.predict import ImageBatches, predict_logits

    args = stage.args
    params = stage.params("evaluate", EvaluateParams)
    device = set_up_device(params, "evaluate")
    about = read_metadata(args.model)
    if (about["backbone"], about["seed"]) != (args.backbone, args.seed):
        raise CarbenchError(
            args.model,
            found=f"the model of {about['backbone']}, seed {about['seed']}",
            expected=f"that of {args.backbone}, seed {args.seed}",
            fix="delete it and run again",
        )
    model, card = load_trained_model(args.model, device)
    normalize = Normalizer(card.mean, card.std, device)
    rows = read_split(args.split, args.seed).of_split("test")
    if rows.classes != card.classes:
        raise CarbenchError(
            args.model,
            found=f"a model of {len(card.classes)} other classes",
            expected=f"the classes of {args.split}",
            fix="delete it and run again",
        )
    pack_rows, widths, heights = read_index(args.pack, rows.images, ("row", "width", "height"))
    about_image = (rows.leaked.astype(int), widths, heights)
    clean = np.flatnonzero(~rows.leaked)

    def packed(chosen: NDArray[np.intp]) -> PackedImages:
        return PackedImages(args.pack, pack_rows[chosen], device)

    def predict(packed_images: ImageBatches) -> torch.Tensor:
        size, batch_size = card.image_size, params.batch_size
        return predict_logits(model, packed_images, normalize, size, batch_size).double()

    # All test images, uncorrupted.
    logits = predict(packed(np.arange(len(rows))))
    probabilities = torch.softmax(logits, dim=1).numpy()
    calibrated = torch.softmax(logits / about["temperature"], dim=1).numpy()
    described = list(winner_rows(rows, probabilities, card.classes))
    for row, *values in zip(described, *map(np.ndarray.tolist, about_image), strict=True):
        row |= dict(zip(IMAGE, values, strict=True))
    clean_rows = [described[index] for index in clean.tolist()]

    # The clean images with corruptions that imitate a phone camera.
    corrupted: dict[str, NDArray[np.int64]] = {}
    if params.corruptions:
        from carbench.evaluation.corruptions import CorruptedImages

        images = packed(clean)
        corrupted = {
            corruption: predict(CorruptedImages(images, corruption)).argmax(dim=1).numpy()
            for corruption in params.corruptions
        }

    # The most confident errors on clean images.
    mistakes = most_confident_errors(clean_rows, params.explanations)
    size = card.image_size
    shown, maps = np.empty((0, size, size, 3), np.uint8), np.empty((0, size, size), np.uint8)
    method = None
    if mistakes:
        from carbench.evaluation.attribution import attribution_maps

        number_of = {row["image"]: number for number, row in enumerate(described)}
        chosen = np.array([number_of[row["image"]] for row in mistakes])
        (upright,) = packed(chosen).whole_images([torch.arange(len(mistakes))], size)
        shown = (255 * upright).round().clamp(0, 255).byte().permute(0, 2, 3, 1).cpu().numpy()
        claimed = torch.tensor([card.classes.index(row["predicted"]) for row in mistakes])
        maps, method = attribution_maps(
            model, normalize(upright), claimed.to(device), params.batch_size
        )

    labels, leaked = rows.labels.astype(np.int64), rows.leaked
    right = probabilities.argmax(axis=1)[clean] == labels[clean]

    def part(chosen: Any) -> dict[str, Any] | None:
        if not chosen.any():
            return None
        groups = len(np.unique(rows.groups[chosen]))
        counts = {"images": int(chosen.sum()), "groups": groups}
        bins = params.calibration_bins
        plain = measure(probabilities[chosen], labels[chosen], card.classes, bins)
        after = measure_calibration(calibrated[chosen], labels[chosen], bins)
        return counts | plain | {f"{name}_calibrated": value for name, value in after.items()}

    metrics = {
        "backbone": args.backbone,
        "seed": args.seed,
        "epoch": about["epoch"],
        "val_accuracy": about["val_accuracy"],
        "temperature": about["temperature"],
        "clean": part(~leaked),
        "leaked": part(leaked),
        "all": part(leaked | True),
        "robustness": {
            name: accuracy(winners == labels[clean]) for name, winners in corrupted.items()
        },
        "slices": {
            by: {
                value: {"images": len(own), "accuracy": accuracy(right[own])}
                for value, own in group_by_slice(clean_rows, by).items()
            }
            for by in params.slices
        },
        "explained_by": method,
    }
    with stage.outputs(args.output) as out:
        columns = prediction_columns(card.classes, IMAGE)
        cells = prediction_rows(rows, probabilities, card.classes)
        predictions = (own | row for own, row in zip(cells, described, strict=True))
        write_table(out / "predictions.csv", columns, predictions)
        write_rows(
            out / "robustness.csv",
            ROBUSTNESS,
            (
                (row["image"], row["group"], row["class"], corruption, card.classes[winner])
                for corruption, winners in corrupted.items()
                for row, winner in zip(clean_rows, winners.tolist(), strict=True)
            ),
        )
        write_table(
            out / "mistakes.csv",
            MISTAKES,
            ({key: row[key] for key in MISTAKES} for row in mistakes),
        )
        write_arrays(out / "explanations.npz", {"images": shown, "maps": maps})
        write_json(out / "metrics.json", metrics)
    log.info("accuracy %.1f %% on %d clean test images", 100 * accuracy(right), len(clean))


def accuracy(right: NDArray[np.bool_]) -> float:
    """Return the fraction of predictions that are right."""
    return int(right.sum()) / len(right)


if __name__ == "__main__":
    parser = stage_parser(__doc__)
    parser.add_argument("--backbone", required=True, help="a name under `backbones:`")
    parser.add_argument("--seed", type=int, required=True, help="seed of the training run")
    parser.add_argument("--model", type=Path, required=True, help="train's model.safetensors")
    parser.add_argument("--pack", type=Path, required=True, help="output of pack")
    parser.add_argument("--split", type=Path, required=True, help="split.csv")
    parser.add_argument("--output", type=Path, required=True, help="folder to write to")
    run_stage(parser, evaluate)
