"""screen: evaluate many timm models as fixed feature extractors.

For every candidate in a pool, features of the training images are computed once and classified by
ridge regression, cross-validated with each duplicate group in one fold; neither val nor test images
are read. Writes ``candidates.csv`` (one row per candidate: description, cost, and the classifier's
accuracy or the reason why it was not screened), ``predictions.csv`` (one row per image, one column
per candidate) and ``cost.csv`` (times measured on this machine).
"""

from pathlib import Path
from typing import TYPE_CHECKING

from carbench.core.stage import Stage, log, run_stage, stage_parser
from carbench.core.tables import write_table
from carbench.params.screen import FeatureParams, LimitParams, ProbeParams

if TYPE_CHECKING:
    from carbench.data.split.table import SplitRows
    from carbench.screening.screener import ScreeningResult

CACHE = Path(".carbench/features")
CANDIDATES = (
    *("model", "pool", "family", "start", "license", "parameters", "macs", "image_size"),
    *("images", "features", "penalty", "accuracy", "neighbour_accuracy", "status"),
)
COST = ("model", "latency_ms", "seconds", "device", "threads")


def screen(stage: Stage) -> None:
    args = stage.args
    patterns: list[str] = stage.value("screen.candidates.{pool}")
    weights = Path(stage.value("screen.weights"))
    limits = stage.params("screen.limits", LimitParams)
    features = stage.params("screen.features", FeatureParams)
    probe = stage.params("screen.probe", ProbeParams)

    rows: SplitRows | None = None
    results: list[ScreeningResult] = []
    if patterns:
        # Imported only if needed: torch and timm take seconds.
        from carbench.models.devices import set_up_device
        from carbench.screening.candidates import find_candidates, read_weights_table
        from carbench.screening.features import FeatureCache
        from carbench.screening.screener import Screener
        from carbench.screening.training_images import load_screening_images, select_training_rows

        candidates = find_candidates(patterns, read_weights_table(weights), limits.random_starts)
        device = set_up_device(features, "screen.features")
        rows = select_training_rows(args.split, features.images, features.seed)
        images = load_screening_images(args.pack, rows, probe, device)
        cache = FeatureCache(CACHE, features.cache_gb * 1e9 if stage.scratch else 0)
        screening = Screener(images, limits, features, probe, device, cache, stage.scratch)
        log.info("%d candidates, %s images", len(candidates), f"{len(rows):,}")
        for number, one in enumerate(screening.run(candidates), start=1):
            results.append(one)
            outcome = f"{100 * one.accuracy:.1f} %" if one.predicted else one.status
            log.info("%d/%d %s (%s): %s", number, len(candidates), one.model, one.start, outcome)

    count = len(rows) if rows else 0
    screened = [one for one in results if one.predicted]
    with stage.outputs(args.output) as out:
        write_table(
            out / "candidates.csv",
            CANDIDATES,
            (
                {
                    "pool": args.pool,
                    "image_size": features.image_size,
                    "images": count,
                    **{key: value for key, value in vars(one).items() if key in CANDIDATES},
                    "accuracy": f"{one.accuracy:.6f}",
                    "neighbour_accuracy": f"{one.neighbour_accuracy:.6f}",
                }
                for one in results
            ),
        )
        write_table(
            out / "predictions.csv",
            ["image", "class", "group", *(one.model for one in screened)],
            (
                {
                    "image": row.image,
                    "class": row.label,
                    "group": row.group,
                    **{one.model: rows.classes[one.predicted[position]] for one in screened},
                }
                for position, row in enumerate(rows or ())
            ),
        )
        write_table(
            out / "cost.csv",
            COST,
            (
                {
                    "model": one.model,
                    "latency_ms": f"{one.latency_ms:.3f}",
                    "seconds": f"{one.seconds:.2f}",
                    "device": features.device,
                    "threads": features.threads,
                }
                for one in results
            ),
        )
    log.info("screened %d of %d candidates", len(screened), len(results))


if __name__ == "__main__":
    parser = stage_parser(__doc__)
    parser.add_argument("--pool", required=True, help="a name under `screen.candidates:`")
    parser.add_argument("--pack", type=Path, required=True, help="output of pack")
    parser.add_argument("--split", type=Path, required=True, help="split.csv")
    parser.add_argument("--output", type=Path, required=True, help="folder to write to")
    run_stage(parser, screen)
