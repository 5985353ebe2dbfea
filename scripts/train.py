"""train: fine-tune one backbone from one seed, choosing the epoch on val.

Writes ``model.safetensors`` (the chosen epoch), ``history.csv`` (a row an epoch) and
``provenance.json`` (from what, with what, where, how long).
"""

import time
from pathlib import Path

from carbench.checkpoints import read_about, read_tensors, save_checkpoint
from carbench.params.base import parse
from carbench.params.train import TrainParams, merge
from carbench.parts import classes_of, read_split
from carbench.provenance import provenance
from carbench.stage import Stage, log, run_stage, stage_parser
from carbench.tables import write_json, write_table


def train(stage: Stage) -> None:
    # Loaded after the parameters were checked: torch and timm take seconds.
    import torch

    from carbench.backbones import ModelCard, card_document, create, load_start, normalization
    from carbench.devices import place, prepare
    from carbench.engine import LabelledPictures, fit
    from carbench.packed import Normalizer, PackedPictures

    args = stage.args
    recipe = merge(stage.value("train"), stage.value("backbones.{backbone}.train"))
    params = parse(recipe, TrainParams, f"backbones.{args.backbone}.train", args.params)
    inputs = [args.pack / "images.npy", args.pack / "index.csv", args.split, args.weights]
    record = provenance("train", recipe | {"seed": args.seed}, inputs)
    started = time.perf_counter()

    device = prepare(params, "train")
    rows = read_split(args.split, args.seed)
    classes = classes_of(rows)

    def part(name: str) -> LabelledPictures:
        own = [row for row in rows if row.split == name]
        labels = torch.tensor([classes.index(row.label) for row in own], device=device)
        return LabelledPictures(
            PackedPictures(args.pack, [row.image for row in own], device), labels
        )

    torch.manual_seed(args.seed)
    start = read_about(args.weights)
    model = create(start["model"], len(classes), f"backbones.{args.backbone}.model")
    if start["start"] != "random":
        fresh = load_start(model, read_tensors(args.weights), args.weights)
        log.info("started from %s; new: %s", start["start"], ", ".join(fresh))
    mean, std = normalization(model)
    model = place(model, device)

    trained = fit(
        model, part("train"), part("val"), Normalizer(mean, std, device), params, args.seed
    )

    card = ModelCard(start["model"], classes, params.image_size, mean, std)
    chosen = trained.history[trained.chosen - 1]
    record["seconds"] = round(time.perf_counter() - started, 1)
    with stage.outputs(args.output) as out:
        about = {
            "backbone": args.backbone,
            "card": card_document(card),
            "start": start,
            "seed": args.seed,
            "epoch": trained.chosen,
            "val_accuracy": chosen.val_accuracy,
            "val_loss": chosen.val_loss,
        }
        save_checkpoint(out / "model.safetensors", trained.tensors, about)
        write_table(
            out / "history.csv",
            [*vars(chosen), "chosen"],
            ({**vars(row), "chosen": int(row is chosen)} for row in trained.history),
        )
        write_json(out / "provenance.json", record)
    log.info(
        "kept epoch %d: val accuracy %.1f %%; %.0f s",
        *(trained.chosen, 100 * chosen.val_accuracy, record["seconds"]),
    )


if __name__ == "__main__":
    parser = stage_parser(__doc__)
    parser.add_argument("--backbone", required=True, help="a name under `backbones:`")
    parser.add_argument("--seed", type=int, required=True, help="of the start, order, augmentation")
    parser.add_argument("--pack", type=Path, required=True, help="what pack wrote")
    parser.add_argument("--split", type=Path, required=True, help="split.csv")
    parser.add_argument("--weights", type=Path, required=True, help="what weights wrote")
    parser.add_argument("--output", type=Path, required=True, help="folder to write to")
    run_stage(parser, train)
