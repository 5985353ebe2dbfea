"""export: write the chosen model for deployment, and check that its predictions are unchanged.

Writes one folder: ``model.onnx`` (from pixels to calibrated probabilities; with ``int8`` also
``model.int8.onnx``), ``config.json`` and ``model.safetensors`` (for timm), ``labels.json``,
``model.json`` (description, evaluation and provenance), ``reference.npz`` (the reference for drift
detection), ``example.jpg`` and ``README.md``, the model card.
"""

from functools import partial
from pathlib import Path

from carbench.core.columns import texts
from carbench.core.provenance import file_hash, provenance
from carbench.core.stage import Stage, log, run_stage, stage_parser
from carbench.core.tables import read_json, read_table, write_json
from carbench.data.split.table import first_of_groups, read_split
from carbench.deploy.bundle.exported_model import (
    EXAMPLE_IMAGE,
    INT8_ONNX,
    LABELS,
    MODEL_CARD,
    MODEL_JSON,
    ONNX,
    REFERENCE,
)
from carbench.deploy.export.run_selection import select_run
from carbench.params.choose import DeploymentMix
from carbench.params.compute import ComputeSection
from carbench.params.export import ExportParams
from carbench.params.pack import PackParams

# Approximate number of training images to fit the embedding's axes and the 8-bit ranges on.
SOME = 512


def export(stage: Stage) -> None:
    args = stage.args
    params = stage.params("export", ExportParams)
    pack = stage.params("pack", PackParams)
    confidence: float = stage.value("aggregate.confidence")
    mix: DeploymentMix = stage.value("choose.deployment_mix")
    backbone, seed = select_run(params, args.choice)
    log.info("exporting %s, seed %d", backbone, seed)

    # Imported after the parameters are validated: torch and timm take seconds.
    import torch

    from carbench.data.loading.batches import Normalizer, PackedImages
    from carbench.data.pack.reading import find_rows, read_batches
    from carbench.deploy.bundle.observations import observe, write_observations
    from carbench.deploy.export.evaluation import (
        backbone_accuracy,
        decision_metrics,
        int8_metrics,
        model_accuracy,
    )
    from carbench.deploy.export.example_image import write_example_image
    from carbench.deploy.export.model_card import render_model_card
    from carbench.deploy.export.parity import measure_parity, require_parity
    from carbench.deploy.export.timm_checkpoint import write_timm_checkpoint
    from carbench.models.backbones import load_trained_model
    from carbench.models.devices import set_up_device
    from carbench.models.model_file import read_metadata
    from carbench.models.onnx_classifier import OnnxModel
    from carbench.models.onnx_export import ExportableModel, write_onnx
    from carbench.models.onnx_int8 import write_int8
    from carbench.models.predict import predict_logits
    from carbench.statistics.class_mix import describe_mix
    from carbench.statistics.predictions import COLUMNS, parse_predictions
    from carbench.statistics.selective_metrics import read_thresholds

    run, judged = (folder / backbone / str(seed) for folder in (args.train, args.evaluate))
    checkpoint, predictions = run / "model.safetensors", judged / "predictions.csv"
    inputs = [checkpoint, predictions, args.choice, args.thresholds, args.split, args.summary]
    record = provenance("export", params.model_dump(), inputs)
    device = set_up_device(
        ComputeSection(device="cpu", threads=params.threads, batch_size=params.batch_size), "export"
    )
    model, card = load_trained_model(checkpoint, device)
    temperature = read_metadata(checkpoint)["temperature"]
    (thresholds,) = read_thresholds(args.thresholds, [backbone], [seed])[backbone]
    rows = read_split(args.split, seed)
    pack_rows = find_rows(args.pack, rows.images)
    (summary,) = (row for row in read_table(args.summary) if row["backbone"] == backbone)

    batches = partial(read_batches, args.pack, size=params.batch_size)

    # The trained model's predictions for the test images, which the exported one must reproduce.
    table = parse_predictions(predictions, predictions, (*COLUMNS, "leaked"))
    tested = find_rows(args.pack, texts(list(table["image"])))
    logits = predict_logits(
        model,
        PackedImages(args.pack, tested, device),
        Normalizer(card.mean, card.std, device),
        card.image_size,
        params.batch_size,
    )
    trained = torch.softmax(logits.double() / temperature, dim=1).numpy()

    # The reference for drift detection is val: the model was not trained on it, and it is not the
    # test set. It has one image per duplicate group, because new images are distinct, too. The
    # embedding's axes are fitted on other images, or those of the reference would lie closer to the
    # centre than new ones.
    reference = rows.indices_of("val")
    reference = reference[first_of_groups(rows.groups[reference])]
    seen = pack_rows[reference]
    learned = pack_rows[rows.indices_of("train")]
    some = learned[:: max(len(learned) // SOME, 1)]
    deployable = ExportableModel(model, card, pack.size, temperature).eval()
    deployable.fit_embedding(batches(some))

    with stage.output(args.output) as out:
        out.mkdir()
        write_onnx(deployable, pack.size, card.classes, out / ONNX)
        exported = OnnxModel(out / ONNX, params.threads)
        evaluated = [card.classes.index(name) for name in table["predicted"]]
        parity = measure_parity(
            exported.probabilities(batches(tested)), trained, evaluated, params.tolerance
        )
        require_parity(parity, checkpoint)
        observed = observe(exported, batches(seen))
        write_observations(out / REFERENCE, observed)

        int8 = None
        if params.int8:
            write_int8(out / ONNX, out / INT8_ONNX, batches(some))
            small = OnnxModel(out / INT8_ONNX, params.threads).probabilities(batches(tested))
            winners = [card.classes[winner] for winner in small.argmax(axis=1)]
            int8 = int8_metrics(table, winners, out / INT8_ONNX, confidence)

        write_timm_checkpoint(model, card, pack.fit, out)
        write_json(out / LABELS, card.classes)
        write_example_image(
            args.data / "images", rows.select(reference), observed, out / EXAMPLE_IMAGE
        )
        sha256 = {path.name: file_hash(path) for path in sorted(out.iterdir())}
        about = {
            "version": f"{backbone}-{seed}-{sha256[ONNX][:12]}",
            "backbone": backbone,
            "seed": seed,
            "timm": card.model,
            "classes": card.classes,
            "input": {"size": pack.size, "fit": pack.fit},
            "temperature": temperature,
            "accuracy": vars(model_accuracy(table, card.classes, mix, confidence)),
            "deployment_mix": describe_mix(mix),
            "backbone_accuracy": backbone_accuracy(summary),
            "confidence": confidence,
            "decision": decision_metrics(predictions, temperature, thresholds, confidence),
            "parity": vars(parity),
            "int8": int8,
            "sha256": sha256,
            "training": read_json(run / "provenance.json"),
            "export": record,
        }
        write_json(out / MODEL_JSON, about)
        card_text = render_model_card(about, read_json(judged / "metrics.json"), summary, rows)
        (out / MODEL_CARD).write_text(card_text, encoding="utf-8")
    log.info(
        "%s: same class as evaluated for %d of %d test images; probabilities differ by up to %.1g",
        *(about["version"], parity.same_top1, parity.images, parity.largest_difference),
    )


if __name__ == "__main__":
    parser = stage_parser(__doc__)
    parser.add_argument("--choice", type=Path, required=True, help="choice.csv")
    parser.add_argument("--thresholds", type=Path, required=True, help="thresholds.csv")
    parser.add_argument("--train", type=Path, required=True, help="folder of all training runs")
    parser.add_argument("--evaluate", type=Path, required=True, help="folder of all evaluations")
    parser.add_argument("--summary", type=Path, required=True, help="summary.csv")
    parser.add_argument("--data", type=Path, required=True, help="output of fetch")
    parser.add_argument("--pack", type=Path, required=True, help="output of pack")
    parser.add_argument("--split", type=Path, required=True, help="split.csv")
    parser.add_argument("--output", type=Path, required=True, help="folder to write to")
    run_stage(parser, export)
