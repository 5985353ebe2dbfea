"""train: fine-tune one backbone with one seed, selecting the epoch on val.

Writes ``model.safetensors`` (the selected epoch, with the temperature fitted on val), ``val.csv``
(its predictions for the val images), ``history.csv`` (one row per epoch) and ``provenance.json``
(inputs, parameters, versions, hardware and duration).
"""

import time
from pathlib import Path

from carbench.core.provenance import provenance
from carbench.core.stage import Stage, log, run_stage, stage_parser
from carbench.core.tables import write_json, write_table
from carbench.models.model_file import save_model
from carbench.models.prediction_table import prediction_columns, prediction_rows
from carbench.training.recipe import add_training_arguments, training_recipe


def train(stage: Stage) -> None:
    # Imported after the parameters are validated: torch and timm take seconds.
    import torch

    from carbench.models.backbones import card_dict
    from carbench.models.devices import set_up_device
    from carbench.models.temperature import fit_temperature
    from carbench.training.run import (
        load_data,
        profile_backbone,
        train_backbone,
        training_record,
    )

    args = stage.args
    section = stage.value("train")
    params, recipe = training_recipe(
        section,
        stage.value("backbones.{backbone}.train"),
        args.weights,
        args.tune,
        f"backbones.{args.backbone}.train",
        args.params,
    )
    inputs = [args.pack / "images.npy", args.pack / "index.csv", args.split]
    inputs += [args.weights, args.tune]
    record = provenance("train", recipe | {"seed": args.seed}, inputs)
    started, cpu_started = time.perf_counter(), time.process_time()

    data = load_data(args.pack, args.split, args.seed, set_up_device(params, "train"))
    if args.profile:
        profile_backbone(args.weights, data, params, args.seed, args.backbone, args.profile)
        return
    checkpoint = stage.scratch and stage.scratch / "training.pt"
    live = stage.live and stage.live / "training.jsonl"
    profile = stage.profile if section.get("profile") else None
    trained, card, start = train_backbone(
        args.weights, data, params, args.seed, args.backbone, checkpoint, live, profile
    )
    chosen = trained.best
    temperature = fit_temperature(trained.val_logits.numpy(), data.val.labels.cpu().numpy())
    probabilities = torch.softmax(trained.val_logits.double(), dim=1).numpy()

    record |= training_record(trained, data.device, started, cpu_started)
    with stage.outputs(args.output) as out:
        metadata = {
            "backbone": args.backbone,
            "card": card_dict(card),
            "start": start,
            "seed": args.seed,
            "epoch": chosen.epoch,
            "val_accuracy": chosen.val_accuracy,
            "val_loss": chosen.val_loss,
            "temperature": temperature,
        }
        save_model(out / "model.safetensors", trained.tensors, metadata)
        write_table(
            out / "val.csv",
            prediction_columns(card.classes),
            prediction_rows(data.val_rows, probabilities, card.classes),
        )
        write_table(
            out / "history.csv",
            [*vars(chosen), "chosen"],
            ({**vars(row), "chosen": int(row is chosen)} for row in trained.history),
        )
        write_json(out / "provenance.json", record)
    log.info(
        "kept epoch %d: val accuracy %.1f %%, temperature %.2f; %.0f s",
        *(chosen.epoch, 100 * chosen.val_accuracy, temperature, record["seconds"]),
    )


if __name__ == "__main__":
    parser = stage_parser(__doc__)
    add_training_arguments(parser)
    parser.add_argument("--seed", type=int, required=True, help="seed of the training run")
    parser.add_argument("--tune", type=Path, required=True, help="output of tune")
    parser.add_argument("--output", type=Path, required=True, help="folder to write to")
    parser.add_argument(
        "--profile",
        type=Path,
        metavar="FOLDER",
        help="only profile a few steps, and write nothing but the profile, to this folder",
    )
    run_stage(parser, train)
