"""aggregate: combine the training runs into the results of the study.

Writes ``summary.csv`` (one row per backbone, the chosen one first), ``comparisons.csv`` (all
pairs), ``variance_parts.csv`` (variance due to test images, seeds and splits), ``recall.csv``,
``slices.csv``, ``robustness.csv`` and ``reliability.csv`` (strengths and weaknesses of each),
``risk_coverage.csv``, ``decisions.csv`` and ``sets.csv`` (selective prediction and prediction sets,
with the thresholds of stage calibrate), ``label_errors.csv`` (images whose label is probably wrong,
according to the chosen backbone), ``curves.csv`` (all epochs), ``confusion.csv`` (counts), for the
chosen backbone ``winner.csv`` (predictions, for DVC's plots) and ``mistakes.csv`` with
``mistakes.npz`` (most confident errors), and ``metrics.json`` (the numbers that DVC compares).
"""

from pathlib import Path

import pandas as pd

from carbench.core.arrays import write_arrays
from carbench.core.stage import Stage, log, run_stage, stage_parser
from carbench.core.tables import read_table, write_json
from carbench.params.aggregate import AggregateParams
from carbench.params.choose import DeploymentMix
from carbench.statistics.breakdown_tables import (
    confusion_table,
    recall_table,
    robustness_table,
    slice_table,
)
from carbench.statistics.calibration_intervals import calibration_intervals
from carbench.statistics.class_mix import class_shares, describe_mix
from carbench.statistics.evaluated_runs import read_runs
from carbench.statistics.jackknife import Groups
from carbench.statistics.label_error_table import label_error_table
from carbench.statistics.prediction_costs import read_costs
from carbench.statistics.predictions import parse_csv
from carbench.statistics.reliability import reliability_table
from carbench.statistics.selective_metrics import read_thresholds
from carbench.statistics.selective_tables import (
    decision_table,
    decisions_on_clean_images,
    risk_coverage_table,
    set_table,
)
from carbench.statistics.summary import (
    SummaryOptions,
    comparison_table,
    score_backbones,
    summarize,
    summary_metrics,
)
from carbench.statistics.top_errors import collect_mistakes
from carbench.statistics.variance_components import variance_table


def aggregate(stage: Stage) -> None:
    args = stage.args
    params = stage.params("aggregate", AggregateParams)
    backbones = list(stage.value("backbones"))
    seeds: list[int] = stage.value("seeds")
    bins: int = stage.value("evaluate.calibration_bins")
    margin: float = stage.value("choose.margin")
    mix: DeploymentMix = stage.value("choose.deployment_mix")
    repeats: int = stage.value("split.repeats")

    runs = read_runs(args.evaluate, backbones, seeds, repeats)
    choice = read_table(
        args.choice, ("backbone", "chosen", "seed", "val_accuracy", "val_low", "val_high")
    )
    costs = read_costs(args.cost, backbones)
    groups = Groups(runs.aligned.groups, runs.aligned.splits)
    scores_by_backbone = score_backbones(runs, groups)
    options = SummaryOptions(
        params.confidence, margin, class_shares(mix, runs.aligned.classes), describe_mix(mix)
    )
    calibration = calibration_intervals(runs, groups, bins, params.confidence)
    summary, comparisons = summarize(runs, scores_by_backbone, calibration, choice, costs, options)
    thresholds = read_thresholds(args.thresholds, backbones, seeds)
    decisions = {
        name: decisions_on_clean_images(runs, name, thresholds[name])
        for name in summary["backbone"]
    }
    chosen = summary.iloc[0]  # the summary lists the chosen backbone first
    classes = {name: each.clean for name, each in scores_by_backbone.items()}
    curves = pd.concat(
        read_history(args.train / name / str(seed)).assign(backbone=name, seed=seed)
        for name in backbones
        for seed in seeds
    )
    winner = pd.concat(
        table[table["leaked"] == 0].assign(seed=seed)
        for seed, table in zip(seeds, runs.predictions[chosen["backbone"]], strict=True)
    )
    mistakes, explanations = collect_mistakes(runs, chosen["backbone"])
    tables = {
        "summary": summary,
        "comparisons": comparison_table(comparisons),
        "variance_parts": variance_table(classes, params.confidence),
        "recall": recall_table(runs, classes, params.confidence),
        "slices": slice_table(runs, groups, params.confidence),
        "robustness": robustness_table(runs, groups, params.confidence),
        "reliability": reliability_table(runs, groups, bins, params.confidence),
        "risk_coverage": risk_coverage_table(
            runs, groups, decisions, thresholds, params.confidence
        ),
        "decisions": decision_table(groups, decisions, thresholds, params.confidence),
        "sets": set_table(runs, groups, decisions, params.confidence),
        "label_errors": label_error_table(runs, args.train, chosen["backbone"]),
        "curves": curves[["backbone", "seed", *curves.columns[:-2]]],
        "confusion": confusion_table(runs),
        "winner": winner[["seed", "image", "class", "predicted", "confidence"]],
        "mistakes": mistakes,
    }

    order = {name: place for place, name in enumerate(summary["backbone"])}
    with stage.outputs(args.output) as out:
        for name, table in tables.items():
            if "backbone" in table:  # in the order of the summary: the chosen one first
                table = table.sort_values(
                    "backbone", key=lambda names: names.map(order), kind="stable"
                )
            table.to_csv(out / f"{name}.csv", index=False, float_format="%.6g", lineterminator="\n")
        write_arrays(out / "mistakes.npz", explanations)
        write_json(out / "metrics.json", summary_metrics(summary, comparisons))
    tied = ", ".join(summary["backbone"][1:][summary["tied"] == 1])
    log.info(
        "%s, chosen on val, has an accuracy of %.1f %% (%.1f to %.1f) on %d clean test images; %s",
        chosen["backbone"],
        *(100 * chosen[key] for key in ("accuracy", "accuracy_low", "accuracy_high")),
        chosen["test_images"],
        f"tied with {tied}" if tied else "no other backbone is tied with it",
    )


def read_history(run: Path) -> pd.DataFrame:
    """Return the table ``history.csv`` of one training run."""
    path = run / "history.csv"
    return parse_csv(path, path, ("epoch",), {})


if __name__ == "__main__":
    parser = stage_parser(__doc__)
    parser.add_argument("--train", type=Path, required=True, help="folder of all training runs")
    parser.add_argument("--evaluate", type=Path, required=True, help="folder of all evaluations")
    parser.add_argument("--cost", type=Path, required=True, help="output of cost")
    parser.add_argument("--choice", type=Path, required=True, help="choice.csv")
    parser.add_argument("--thresholds", type=Path, required=True, help="thresholds.csv")
    parser.add_argument("--output", type=Path, required=True, help="folder to write to")
    run_stage(parser, aggregate)
