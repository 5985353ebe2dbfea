"""cost: what a prediction of this backbone costs on this machine.

The weights do not matter for it, so that a changed recipe does not measure again.
"""

from pathlib import Path

from carbench.models.checkpoints import read_about
from carbench.params.cost import CostParams
from carbench.parts import read_classes
from carbench.provenance import hardware
from carbench.stage import Stage, log, run_stage, stage_parser
from carbench.tables import write_json


def cost(stage: Stage) -> None:
    # Loaded after the parameters were checked: torch and timm take seconds.
    from carbench.costing import measure_cost
    from carbench.models.backbones import create
    from carbench.models.devices import prepare

    args = stage.args
    params = stage.params("cost", CostParams)
    image_size: int = stage.value("train.image_size")
    device = prepare(params, "cost")
    name = read_about(args.weights)["model"]
    classes = len(read_classes(args.split))
    model = create(name, classes, image_size, f"backbones.{args.backbone}.model")
    measured = measure_cost(model, image_size, device, params.batch_size, params.repeats)
    document = {
        "backbone": args.backbone,
        "model": name,
        **measured,
        "image_size": image_size,
        "batch_size": params.batch_size,
        "device": params.device,
        "threads": params.threads,
        "hardware": hardware(),
    }
    with stage.output(args.output) as path:
        write_json(path, document)
    log.info(
        "%.2f million parameters, %.1f million MACs, %.2f ms a picture, %.0f pictures/s in batches",
        measured["parameters"] / 1e6,
        measured["macs"] / 1e6,
        measured["latency_ms"]["median"],
        measured["throughput"],
    )


if __name__ == "__main__":
    parser = stage_parser(__doc__)
    parser.add_argument("--backbone", required=True, help="a name under `backbones:`")
    parser.add_argument("--weights", type=Path, required=True, help="what weights wrote")
    parser.add_argument("--split", type=Path, required=True, help="split.csv")
    parser.add_argument("--output", type=Path, required=True, help="JSON file to write")
    run_stage(parser, cost)
