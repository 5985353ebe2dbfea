"""calibrate: find confidence and prediction-set thresholds of each training run on val.

Reads val predictions and temperatures, and nothing from stage evaluate. Writes ``thresholds.csv``,
with one row per backbone and seed.
"""

from pathlib import Path

from carbench.core.stage import Stage, log, run_stage, stage_parser
from carbench.core.tables import write_table
from carbench.evaluation.conformal import fit_set_threshold
from carbench.evaluation.selective_prediction import ABSTAIN, fit_threshold
from carbench.models.model_file import read_metadata
from carbench.models.temperature import apply_temperature
from carbench.params.calibrate import CalibrateParams
from carbench.statistics.predictions import read_probabilities

COLUMNS = ("backbone", "seed", "images", "max_error", "confidence", "threshold", "answered")
COLUMNS += ("wrong", "error_bound", "set_coverage", "set_threshold")


def calibrate(stage: Stage) -> None:
    args = stage.args
    params = stage.params("calibrate", CalibrateParams)
    rows = []
    for backbone in stage.value("backbones"):
        for seed in stage.value("seeds"):
            folder = args.train / backbone / str(seed)
            rows.append({"backbone": backbone, "seed": seed} | fit(folder, params))
    with stage.output(args.output) as path:
        write_table(path, COLUMNS, rows)
    never = [row for row in rows if row["threshold"] == f"{ABSTAIN:g}"]
    if never:
        log.warning(
            "%d of %d training runs always abstain: on %d independent val images, no threshold "
            "keeps the error rate at %g",
            *(len(never), len(rows), never[0]["images"], params.max_error),
        )


def fit(folder: Path, params: CalibrateParams) -> dict[str, object]:
    """Return the thresholds of one training run, from one val image per duplicate group."""
    table, probabilities, labels = read_probabilities(folder / "val.csv")
    alone = (~table["group"].duplicated()).to_numpy()
    temperature = read_metadata(folder / "model.safetensors")["temperature"]
    calibrated, labels = apply_temperature(probabilities[alone], temperature), labels[alone]
    row: dict[str, object] = dict.fromkeys(COLUMNS[2:], "")
    row["images"] = len(labels)
    if params.max_error:
        right = calibrated.argmax(axis=1) == labels
        found = fit_threshold(calibrated.max(axis=1), right, params.max_error, params.confidence)
        row |= {
            "max_error": f"{params.max_error:g}",
            "confidence": f"{params.confidence:g}",
            "threshold": f"{found.value:.9g}",
            "answered": found.answered,
            "wrong": found.wrong,
            "error_bound": f"{found.bound:.6g}",
        }
    if params.set_coverage:
        row |= {
            "set_coverage": f"{params.set_coverage:g}",
            "set_threshold": f"{fit_set_threshold(calibrated, labels, params.set_coverage):.9g}",
        }
    return row


if __name__ == "__main__":
    parser = stage_parser(__doc__)
    parser.add_argument("--train", type=Path, required=True, help="folder of all training runs")
    parser.add_argument("--output", type=Path, required=True, help="CSV file to write")
    run_stage(parser, calibrate)
