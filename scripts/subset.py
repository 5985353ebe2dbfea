"""subset: train a backbone on a fraction of the train set, with as many steps as on all of it.

The recipe, the learning rate and the number of steps are those of stage train, so each image of a
fraction is seen more often. The epoch is selected on val, and no test image is read. Writes
``val.csv`` (the predictions for the val images, next to those of the training run on all images)
and ``provenance.json``.
"""

import time
from pathlib import Path

from carbench.core.errors import CarbenchError
from carbench.core.provenance import provenance
from carbench.core.stage import Stage, log, run_stage, stage_parser
from carbench.core.tables import read_table, write_json, write_table
from carbench.data.split.subsets import read_positions, select_subset
from carbench.training.recipe import add_training_arguments, training_recipe


def subset(stage: Stage) -> None:
    # Imported after the parameters are validated: torch and timm take seconds.
    from carbench.models.devices import set_up_device
    from carbench.training.optim import steps_per_epoch
    from carbench.training.run import load_data, train_backbone, training_record

    args = stage.args
    params, recipe = training_recipe(
        stage.value("train"),
        stage.value("backbones.{backbone}.train"),
        args.weights,
        args.tune,
        f"backbones.{args.backbone}.train",
        args.params,
    )
    inputs = [args.pack / "images.npy", args.pack / "index.csv", args.split, args.order]
    inputs += [args.weights, args.tune, args.full]
    about = {"fraction": args.fraction, "seed": args.seed}
    record = provenance("subset", recipe | about, inputs)
    started, cpu_started = time.perf_counter(), time.process_time()

    positions = read_positions(args.order)
    data = load_data(
        args.pack,
        args.split,
        args.seed,
        set_up_device(params, "train"),
        lambda rows: select_subset(rows, args.fraction, positions, args.seed),
    )
    checkpoint = stage.scratch and stage.scratch / "training.pt"
    live = stage.live and stage.live / "training.jsonl"
    trained, card, _ = train_backbone(
        args.weights, data, params, args.seed, args.backbone, checkpoint, live
    )
    full = {row["image"]: row["predicted"] for row in read_table(args.full, ("image", "predicted"))}
    rows = [
        {
            "image": row.image,
            "group": row.group,
            "class": row.label,
            "predicted": card.classes[index],
            "full": full.get(row.image),
        }
        for row, index in zip(data.val_rows, trained.val_logits.argmax(dim=1).tolist(), strict=True)
    ]
    if {row["image"] for row in rows} != set(full):
        raise CarbenchError(
            args.full,
            found="images other than those in val",
            expected="the val predictions of the training run on all images",
            fix="delete it and run again",
        )
    images, shown = len(data.train.images), data.train.per_epoch or 0
    record["images"], record["all_images"] = images, shown
    record["steps"] = len(trained.history) * steps_per_epoch(shown, params.batch_size)
    record["epoch"] = trained.best.epoch
    record |= training_record(trained, data.device, started, cpu_started)
    with stage.outputs(args.output) as out:
        write_table(out / "val.csv", list(rows[0]), rows)
        write_json(out / "provenance.json", record)
    log.info(
        "%d of %d images, %d steps: val accuracy %.1f %%; %.0f s",
        *(images, shown, record["steps"], 100 * trained.best.val_accuracy, record["seconds"]),
    )


if __name__ == "__main__":
    parser = stage_parser(__doc__)
    add_training_arguments(parser)
    parser.add_argument("--fraction", type=float, required=True, help="fraction of the train set")
    parser.add_argument("--seed", type=int, required=True, help="seed of the training run")
    parser.add_argument("--order", type=Path, required=True, help="output of draw")
    parser.add_argument("--tune", type=Path, required=True, help="output of tune")
    parser.add_argument("--full", type=Path, required=True, help="train's val.csv of this seed")
    parser.add_argument("--output", type=Path, required=True, help="folder to write to")
    run_stage(parser, subset)
