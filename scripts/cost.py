"""cost: measure each backbone's cost per prediction on this machine, in the runtime that serves.

Each backbone is exported to ONNX as in stage export; its cost does not depend on the values of its
weights, so this stage does not wait for the training runs. All backbones and runtimes are timed
alternately in one job, because times measured at different moments are not comparable. Writes
``exact.csv`` (counted costs), ``measured.csv`` (median times with intervals), ``rounds.csv`` (all
times), ``memory.csv`` and ``conditions.json`` (hardware, versions and settings of the measurement).
"""

from dataclasses import asdict
from datetime import UTC, datetime
from os import getloadavg
from pathlib import Path
from tempfile import TemporaryDirectory

from carbench.core.provenance import hardware, versions
from carbench.core.stage import Stage, log, run_stage, stage_parser
from carbench.core.tables import write_json, write_table
from carbench.cost.file_names import CONDITIONS, EXACT, MEMORY, SERVED
from carbench.cost.median_image import median_image
from carbench.data.split.table import read_split
from carbench.models.model_file import read_metadata
from carbench.params.cost import CostParams
from carbench.params.pack import PackParams


def cost(stage: Stage) -> None:
    args = stage.args
    params = stage.params("cost", CostParams)
    pack = stage.params("pack", PackParams)
    image_size: int = stage.value("train.image_size")
    starts = {name: args.weights / f"{name}.safetensors" for name in stage.value("backbones")}
    models = {name: read_metadata(path)["model"] for name, path in starts.items()}
    images = read_split(args.split, 0)
    example = median_image(args.data / "manifest.csv", images)
    file = args.data / "images" / example.image

    # Imported after the parameters are validated: torch and timm take seconds.
    from carbench.cost.latency import time_backbones
    from carbench.cost.latency_tables import write_latencies
    from carbench.cost.static_costs import measure_static_costs
    from carbench.cost.untrained_onnx import GraphShape

    shape = GraphShape(pack.size, image_size, tuple(images.classes))
    with TemporaryDirectory() as folder:
        graphs = Path(folder)
        prepared = measure_static_costs(models, shape, graphs, file, pack.fit, params.int8)
        turns = time_backbones(models, graphs, shape, file, pack.fit, params)
    with stage.outputs(args.output) as out:
        exact = [each.exact for each in prepared]
        memory = [row for each in prepared for row in each.memory]
        for name, rows in ((EXACT, exact), (MEMORY, memory)):
            write_table(out / name, list(rows[0]), rows)
        measured = write_latencies(out, turns, params.confidence)
        write_json(
            out / CONDITIONS,
            {
                "measured": datetime.now(UTC).isoformat(timespec="seconds"),
                "hardware": hardware(),
                "load_average": round(
                    getloadavg()[0], 2
                ),  # of the last minute, this stage's included
                "versions": versions("python", "numpy", "onnxruntime", "pillow", "timm", "torch"),
                "input": {"size": pack.size, "fit": pack.fit},
                "image_size": image_size,
                "classes": len(shape.classes),
                "example": asdict(example),
                "params": params.model_dump(),
            },
        )
    for row in measured:
        if SERVED.items() <= {name: str(value) for name, value in row.items()}.items():
            log.info(
                "%s: %s ms per image (%s to %s) in ONNX Runtime on one thread, model only",
                *(row[column] for column in ("backbone", "ms", "ms_low", "ms_high")),
            )


if __name__ == "__main__":
    parser = stage_parser(__doc__)
    parser.add_argument("--weights", type=Path, required=True, help="output folder of weights")
    parser.add_argument("--data", type=Path, required=True, help="output of fetch")
    parser.add_argument("--split", type=Path, required=True, help="split.csv")
    parser.add_argument("--output", type=Path, required=True, help="folder to write to")
    run_stage(parser, cost)
