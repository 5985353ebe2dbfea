"""learning_curve: accuracy on val versus the number of training images, and its extrapolation.

Writes ``learning_curve.csv`` (one row per backbone and fraction, and one for the extrapolation) and
``extrapolation.csv`` (one row per backbone: the gain from more images, or why it cannot be
estimated); neither has rows if ``learning_curve.fractions`` is empty.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from carbench.core.stage import Stage, log, run_stage, stage_parser
from carbench.core.tables import write_table
from carbench.params.learning_curve import LearningCurveParams

if TYPE_CHECKING:
    from carbench.statistics.learning_curves import LearningCurve
    from carbench.statistics.subset_runs import SubsetRuns

POINT_COLUMNS = (
    *("backbone", "fraction", "kind", "images", "accuracy", "low", "high", "fitted"),
    *("accuracy_by_seed", "seeds", "steps", "val_images", "confidence"),
)
EXTRAPOLATION_COLUMNS = (
    *("backbone", "factor", "images", "accuracy", "accuracy_low", "accuracy_high"),
    *("gain", "gain_low", "gain_high", "exponent", "exponent_low", "exponent_high"),
    *("training_noise", "fits", "reason"),
)


def learning_curve(stage: Stage) -> None:
    params = stage.params("learning_curve", LearningCurveParams)
    points: list[dict[str, Any]] = []
    extrapolations: list[dict[str, Any]] = []
    backbones = list(stage.value("backbones"))
    for backbone in backbones if params.fractions else []:
        # Imported only if there is a curve.
        from carbench.statistics.learning_curves import fit_learning_curve
        from carbench.statistics.subset_runs import read_subsets

        runs = read_subsets(stage.args.subset, backbone, params.fractions, params.seeds)
        scores = runs.scores()
        curve = fit_learning_curve(
            scores, runs.fractions, runs.images, params.factor, params.confidence
        )
        by_seed = [" ".join(f"{value:.6f}" for value in each.by_training) for each in scores]
        points += point_rows(backbone, curve, runs, by_seed, params)
        extrapolations.append(extrapolation_row(backbone, curve, params))
        log.info("%s: %s", backbone, sentence(curve, params.factor))
    with stage.outputs(stage.args.output) as out:
        write_table(out / "learning_curve.csv", POINT_COLUMNS, points)
        write_table(out / "extrapolation.csv", EXTRAPOLATION_COLUMNS, extrapolations)
    if not points:
        log.info("no fractions of the training set were trained on")


def point_rows(
    backbone: str,
    curve: "LearningCurve",
    runs: "SubsetRuns",
    by_seed: list[str],
    params: LearningCurveParams,
) -> list[dict[str, Any]]:
    """Return the rows of learning_curve.csv: the measured points, and the extrapolated one."""
    shared = {
        "backbone": backbone,
        "seeds": " ".join(map(str, params.seeds)),
        "steps": runs.steps,
        "val_images": int(runs.tested.any(axis=0).sum()),
        "confidence": params.confidence,
    }
    rows = [
        shared
        | {
            "fraction": f"{point.fraction:g}",
            "kind": "measured",
            "images": f"{point.images:.10g}",
            "accuracy": f"{point.accuracy.value:.6g}",
            "low": f"{point.accuracy.low:.6g}",
            "high": f"{point.accuracy.high:.6g}",
            "fitted": "" if point.fitted is None else f"{point.fitted:.6g}",
            "accuracy_by_seed": values,
        }
        for point, values in zip(curve.points, by_seed, strict=True)
    ]
    if curve.extrapolation:
        accuracy = curve.extrapolation.accuracy
        rows.append(
            shared
            | {
                "fraction": f"{params.factor:g}",
                "kind": "extrapolated",
                "images": f"{curve.extrapolation.images:.10g}",
                "accuracy": f"{accuracy.value:.6g}",
                "low": f"{accuracy.low:.6g}",
                "high": f"{accuracy.high:.6g}",
                "fitted": f"{accuracy.value:.6g}",
                "accuracy_by_seed": "",
            }
        )
    return rows


def extrapolation_row(
    backbone: str, curve: "LearningCurve", params: LearningCurveParams
) -> dict[str, Any]:
    """Return a row of extrapolation.csv; without numbers if there is a reason for having none."""
    row: dict[str, Any] = dict.fromkeys(EXTRAPOLATION_COLUMNS, "")
    row |= {"backbone": backbone, "factor": f"{params.factor:g}", "reason": curve.reason}
    if curve.extrapolation:
        for name in ("accuracy", "gain", "exponent"):
            interval = getattr(curve.extrapolation, name)
            row[name] = f"{interval.value:.6g}"
            row[f"{name}_low"] = f"{interval.low:.6g}"
            row[f"{name}_high"] = f"{interval.high:.6g}"
        row["images"] = f"{curve.extrapolation.images:.10g}"
        row["training_noise"] = int(curve.extrapolation.includes_training_variance)
        row["fits"] = int(curve.extrapolation.fits)
    return row


def sentence(curve: "LearningCurve", factor: float) -> str:
    """Return a sentence about the gain from more images."""
    if curve.extrapolation is None:
        return f"no extrapolation: {curve.reason}"
    gain = curve.extrapolation.gain
    return (
        f"{factor:g} times as many images would change accuracy by {100 * gain.value:+.1f} points "
        f"({100 * gain.low:.1f} to {100 * gain.high:.1f}), if the curve continues as it has so far"
    )


if __name__ == "__main__":
    parser = stage_parser(__doc__)
    parser.add_argument(
        "--subset", type=Path, required=True, help="folder of all training runs of subset"
    )
    parser.add_argument("--output", type=Path, required=True, help="folder to write to")
    run_stage(parser, learning_curve)
