"""train: fine-tune one backbone from one seed, choosing the epoch on val.

Writes ``model.safetensors`` (the chosen epoch, with the temperature that val asks for),
``val.csv`` (its predictions of the val pictures), ``history.csv`` (a row an epoch) and
``provenance.json`` (from what, with what, where, how long).
"""

import time
from pathlib import Path

from carbench.judging.predictions import prediction_columns, prediction_rows
from carbench.models.checkpoints import is_pretrained, save_checkpoint
from carbench.params.base import parse
from carbench.params.train import TrainParams, recipe_of
from carbench.provenance import provenance
from carbench.stage import Stage, log, run_stage, stage_parser
from carbench.tables import write_json, write_table
from carbench.training.tuning import chosen_rate


def train(stage: Stage) -> None:
    # Loaded after the parameters were checked: torch and timm take seconds.
    import torch

    from carbench.judging.calibration import fit_temperature
    from carbench.models.backbones import card_document
    from carbench.models.devices import peak_memory_mb, prepare
    from carbench.training.run import load_material, train_backbone

    args = stage.args
    recipe = recipe_of(
        stage.value("train"),
        stage.value("backbones.{backbone}.train"),
        pretrained=is_pretrained(args.weights),
    )
    tuned = chosen_rate(args.tune)
    if tuned is not None:
        recipe["lr"] = tuned
    params = parse(recipe, TrainParams, f"backbones.{args.backbone}.train", args.params)
    inputs = [args.pack / "images.npy", args.pack / "index.csv", args.split]
    inputs += [args.weights, args.tune]
    record = provenance("train", recipe | {"seed": args.seed}, inputs)
    started, computed = time.perf_counter(), time.process_time()

    material = load_material(args.pack, args.split, args.seed, prepare(params, "train"))
    checkpoint = stage.scratch and stage.scratch / "training.pt"
    trained, card, start = train_backbone(
        args.weights, material, params, args.seed, args.backbone, checkpoint
    )
    chosen = trained.chosen
    temperature = fit_temperature(trained.val_logits.numpy(), material.val.labels.cpu().numpy())
    probabilities = torch.softmax(trained.val_logits.double(), dim=1).numpy()

    record["seconds"] = round(trained.seconds_before + time.perf_counter() - started, 1)
    record["cpu_seconds"] = round(time.process_time() - computed, 1)
    record["resumed_after"] = trained.resumed_after
    record["precision"] = trained.precision
    record["micro_batch"] = trained.micro_batch
    record["peak_memory_mb"] = round(peak_memory_mb(material.device))
    with stage.outputs(args.output) as out:
        about = {
            "backbone": args.backbone,
            "card": card_document(card),
            "start": start,
            "seed": args.seed,
            "epoch": chosen.epoch,
            "val_accuracy": chosen.val_accuracy,
            "val_loss": chosen.val_loss,
            "temperature": temperature,
        }
        save_checkpoint(out / "model.safetensors", trained.tensors, about)
        write_table(
            out / "val.csv",
            prediction_columns(card.classes),
            prediction_rows(material.val_rows, probabilities, card.classes),
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
    parser.add_argument("--backbone", required=True, help="a name under `backbones:`")
    parser.add_argument("--seed", type=int, required=True, help="of the start, order, augmentation")
    parser.add_argument("--pack", type=Path, required=True, help="what pack wrote")
    parser.add_argument("--split", type=Path, required=True, help="split.csv")
    parser.add_argument("--weights", type=Path, required=True, help="what weights wrote")
    parser.add_argument("--tune", type=Path, required=True, help="what tune wrote")
    parser.add_argument("--output", type=Path, required=True, help="folder to write to")
    run_stage(parser, train)
