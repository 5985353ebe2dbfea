"""export: write the chosen model so that others can use it, and check that it is still the same.

Writes one folder: ``model.onnx`` (pixels to calibrated probabilities; with ``int8`` also
``model.int8.onnx``), what timm loads (``config.json``, ``model.safetensors``), ``labels.json``,
``model.json`` (what it is, how good, from what), ``reference.npz`` (what new pictures are held
against), ``example.jpg`` and ``README.md``, the model card.
"""

from functools import partial
from pathlib import Path

from carbench.deployed.folder import ABOUT, CARD, EXAMPLE, INT8_ONNX, LABELS, ONNX, REFERENCE
from carbench.exporting.picking import pick
from carbench.params.aggregate import AggregateParams
from carbench.params.compute import ComputeSection
from carbench.params.export import ExportParams
from carbench.params.pack import PackParams
from carbench.parts import first_of_groups, read_split
from carbench.provenance import file_hash, provenance
from carbench.stage import Stage, log, run_stage, stage_parser
from carbench.tables import read_json, read_table, write_json

# Training pictures, about, that tell the axes of the embedding and the ranges of 8-bit numbers.
SOME = 512


def export(stage: Stage) -> None:
    args = stage.args
    params = stage.params("export", ExportParams)
    pack = stage.params("pack", PackParams)
    intervals = stage.params("aggregate", AggregateParams)
    backbone, seed = pick(params, args.choice, args.train, stage.value("seeds"))
    log.info("exporting %s, seed %d", backbone, seed)

    # Loaded after the parameters were checked: torch and timm take seconds.
    import torch

    from carbench.deployed.classifier import OnnxModel
    from carbench.deployed.observations import write_observations
    from carbench.exporting.card import render_card
    from carbench.exporting.example import write_example
    from carbench.exporting.graph import Deployable, write_onnx
    from carbench.exporting.measuring import accuracy_of, measure_int8
    from carbench.exporting.parity import compare_models, refuse_difference
    from carbench.exporting.quantizing import write_int8
    from carbench.exporting.timm_folder import write_timm
    from carbench.judging.predict import predict_logits
    from carbench.models.backbones import load_trained
    from carbench.models.checkpoints import read_about
    from carbench.models.devices import prepare
    from carbench.pictures.pack import read_batches
    from carbench.pictures.packed import Normalizer, PackedPictures
    from carbench.statistics.answers import COLUMNS, parse_predictions

    run, judged = (folder / backbone / str(seed) for folder in (args.train, args.evaluate))
    checkpoint, predictions = run / "model.safetensors", judged / "predictions.csv"
    inputs = [checkpoint, predictions, args.choice, args.split, args.summary]
    record = provenance("export", params.model_dump(), inputs)
    device = prepare(
        ComputeSection(device="cpu", threads=params.threads, batch_size=params.batch_size), "export"
    )
    model, card = load_trained(checkpoint, device)
    temperature = read_about(checkpoint)["temperature"]
    rows = read_split(args.split, seed)

    batches = partial(read_batches, args.pack, size=params.batch_size)

    # What the trained model says of the test pictures, which the exported one has to repeat.
    table = parse_predictions(predictions, predictions, (*COLUMNS, "leaked"))
    tested = list(table["image"])
    logits = predict_logits(
        model,
        PackedPictures(args.pack, tested, device),
        Normalizer(card.mean, card.std, device),
        card.image_size,
        params.batch_size,
    )
    trained = torch.softmax(logits.double() / temperature, dim=1).numpy()

    # New pictures are held against val: it was not learned from, and is not the test. One picture
    # of each duplicate group, as new ones are different pictures, too. By what axes they are
    # compared may not depend on them, or they would stand nearer to their centre than new ones.
    reference = first_of_groups([row for row in rows if row.split == "val"])
    seen = [row.image for row in reference]
    learned = [row.image for row in rows if row.split == "train"]
    some = learned[:: max(len(learned) // SOME, 1)]
    deployable = Deployable(model, card, pack.size, temperature).eval()
    deployable.embed_along_principal_axes(batches(some))

    with stage.output(args.output) as out:
        out.mkdir()
        write_onnx(deployable, pack.size, card.classes, out / ONNX)
        exported = OnnxModel(out / ONNX, params.threads)
        evaluated = [card.classes.index(name) for name in table["predicted"]]
        parity = compare_models(
            exported.probabilities(batches(tested)), trained, evaluated, params.tolerance
        )
        refuse_difference(parity, checkpoint)
        observed = exported.observe(batches(seen))
        write_observations(out / REFERENCE, observed)

        int8 = None
        if params.int8:
            write_int8(out / ONNX, out / INT8_ONNX, batches(some))
            small = OnnxModel(out / INT8_ONNX, params.threads).probabilities(batches(tested))
            winners = [card.classes[winner] for winner in small.argmax(axis=1)]
            int8 = measure_int8(table, winners, out / INT8_ONNX, intervals)

        write_timm(model, card, pack.fit, out)
        write_json(out / LABELS, card.classes)
        write_example(args.data / "images", reference, observed, card.classes, out / EXAMPLE)
        sha256 = {path.name: file_hash(path) for path in sorted(out.iterdir())}
        about = {
            "version": f"{backbone}-{seed}-{sha256[ONNX][:12]}",
            "backbone": backbone,
            "seed": seed,
            "timm": card.model,
            "classes": card.classes,
            "input": {"size": pack.size, "fit": pack.fit},
            "temperature": temperature,
            "accuracy": vars(accuracy_of(table, intervals)),
            "confidence": intervals.confidence,
            "parity": vars(parity),
            "int8": int8,
            "sha256": sha256,
            "training": read_json(run / "provenance.json"),
            "export": record,
        }
        write_json(out / ABOUT, about)
        (summary,) = (row for row in read_table(args.summary) if row["backbone"] == backbone)
        card_text = render_card(about, read_json(judged / "metrics.json"), summary, rows)
        (out / CARD).write_text(card_text, encoding="utf-8")
    log.info(
        "%s: %d of %d test pictures as evaluated, probabilities at most %.1g off",
        *(about["version"], parity.same_top1, parity.pictures, parity.largest_difference),
    )


if __name__ == "__main__":
    parser = stage_parser(__doc__)
    parser.add_argument("--choice", type=Path, required=True, help="choice.csv")
    parser.add_argument("--train", type=Path, required=True, help="folder of all trainings")
    parser.add_argument("--evaluate", type=Path, required=True, help="folder of all evaluations")
    parser.add_argument("--summary", type=Path, required=True, help="summary.csv")
    parser.add_argument("--data", type=Path, required=True, help="what fetch wrote")
    parser.add_argument("--pack", type=Path, required=True, help="what pack wrote")
    parser.add_argument("--split", type=Path, required=True, help="split.csv")
    parser.add_argument("--output", type=Path, required=True, help="folder to write")
    run_stage(parser, export)
