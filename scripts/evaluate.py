"""evaluate: look at the test pictures, once, and write down what the model says of each.

Writes ``predictions.csv`` (a row a test picture with all probabilities) and ``metrics.json``
(every number, on the clean pictures and, where there are any, on the leaked and on all).
"""

from pathlib import Path
from typing import Any

import numpy as np

from carbench.checkpoints import read_about
from carbench.errors import CarbenchError
from carbench.metrics import measure
from carbench.params.evaluate import EvaluateParams
from carbench.parts import read_split
from carbench.stage import Stage, log, run_stage, stage_parser
from carbench.tables import write_json, write_table


def evaluate(stage: Stage) -> None:
    # Loaded after the parameters were checked: torch and timm take seconds.
    import torch

    from carbench.backbones import load_trained
    from carbench.devices import prepare
    from carbench.packed import Normalizer, PackedPictures
    from carbench.predict import predict_logits

    args = stage.args
    params = stage.params("evaluate", EvaluateParams)
    device = prepare(params, "evaluate")
    about = read_about(args.model)
    if (about["backbone"], about["seed"]) != (args.backbone, args.seed):
        raise CarbenchError(
            args.model,
            found=f"the model of {about['backbone']}, seed {about['seed']}",
            expected=f"that of {args.backbone}, seed {args.seed}",
            fix="delete it and run again",
        )
    model, card = load_trained(args.model, device)
    rows = [row for row in read_split(args.split, args.seed) if row.split == "test"]

    logits = predict_logits(
        model,
        PackedPictures(args.pack, [row.image for row in rows], device),
        Normalizer(card.mean, card.std, device),
        card.image_size,
        params.batch_size,
    )
    probabilities = torch.softmax(logits.double(), dim=1).numpy()
    labels = np.array([card.classes.index(row.label) for row in rows])
    leaked = np.array([row.leaked for row in rows])
    groups = np.array([row.group for row in rows])

    def part(chosen: Any) -> dict[str, Any] | None:
        if not chosen.any():
            return None
        counts = {"images": int(chosen.sum()), "groups": len(set(groups[chosen].tolist()))}
        return counts | measure(
            probabilities[chosen], labels[chosen], card.classes, params.calibration_bins
        )

    metrics = {
        "backbone": args.backbone,
        "seed": args.seed,
        "epoch": about["epoch"],
        "val_accuracy": about["val_accuracy"],
        "clean": part(~leaked),
        "leaked": part(leaked),
        "all": part(leaked | True),
    }
    predicted = probabilities.argmax(axis=1)
    with stage.outputs(args.output) as out:
        write_table(
            out / "predictions.csv",
            [
                *("image", "class", "group", "leaked", "predicted", "confidence"),
                *(f"p:{name}" for name in card.classes),
            ],
            (
                {
                    "image": row.image,
                    "class": row.label,
                    "group": row.group,
                    "leaked": int(row.leaked),
                    "predicted": card.classes[winner],
                    "confidence": f"{chances[winner]:.6f}",
                    **{
                        f"p:{name}": f"{chance:.6f}"
                        for name, chance in zip(card.classes, chances, strict=True)
                    },
                }
                for row, winner, chances in zip(rows, predicted, probabilities, strict=True)
            ),
        )
        write_json(out / "metrics.json", metrics)
    clean = metrics["clean"]
    log.info("%.1f %% of %d clean test pictures", 100 * clean["accuracy"], clean["images"])


if __name__ == "__main__":
    parser = stage_parser(__doc__)
    parser.add_argument("--backbone", required=True, help="a name under `backbones:`")
    parser.add_argument("--seed", type=int, required=True, help="of the training")
    parser.add_argument("--model", type=Path, required=True, help="train's model.safetensors")
    parser.add_argument("--pack", type=Path, required=True, help="what pack wrote")
    parser.add_argument("--split", type=Path, required=True, help="split.csv")
    parser.add_argument("--output", type=Path, required=True, help="folder to write to")
    run_stage(parser, evaluate)
