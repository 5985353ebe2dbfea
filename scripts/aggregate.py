"""aggregate: from single runs to the answer.

Writes ``summary.csv`` (a row a backbone, the chosen one first), ``comparisons.csv`` (all pairs),
``recall.csv``, ``slices.csv``, ``robustness.csv`` and ``reliability.csv`` (where each is strong and
weak), ``curves.csv`` (all epochs), ``confusion.csv`` (counts), of the chosen backbone
``winner.csv`` (predictions, for DVC's plots) and ``mistakes.csv`` with ``mistakes.npz``, and
``metrics.json`` (the numbers DVC compares).
"""

from pathlib import Path

import numpy as np
import pandas as pd

from carbench.params.aggregate import AggregateParams
from carbench.stage import Stage, log, run_stage, stage_parser
from carbench.statistics.bootstrap import Bootstrap
from carbench.statistics.breakdowns import (
    confusion_table,
    recall_table,
    robustness_table,
    slice_table,
)
from carbench.statistics.gallery import gather_mistakes
from carbench.statistics.reliability import reliability_table
from carbench.statistics.runs import read_runs
from carbench.statistics.summarizing import comparison_table, headline, judge, summarize
from carbench.tables import read_json, read_table, write_json


def aggregate(stage: Stage) -> None:
    args = stage.args
    params = stage.params("aggregate", AggregateParams)
    backbones = list(stage.value("backbones"))
    seeds: list[int] = stage.value("seeds")
    bins: int = stage.value("evaluate.calibration_bins")

    runs = read_runs(args.evaluate, backbones, seeds)
    choice = read_table(args.choice, ("backbone", "chosen", "val_accuracy", "val_low", "val_high"))
    costs = {name: read_json(args.cost / f"{name}.json") for name in backbones}
    bootstrap = Bootstrap(runs.answers.groups, params.resamples, params.seed)
    judged = judge(runs, bootstrap)
    summary, comparisons = summarize(runs, judged, choice, costs, params)
    chosen = summary.iloc[0]  # stands first
    classes = {name: each.clean for name, each in judged.items()}
    curves = pd.concat(
        pd.read_csv(args.train / name / str(seed) / "history.csv").assign(backbone=name, seed=seed)
        for name in backbones
        for seed in seeds
    )
    winner = pd.concat(
        table[table["leaked"] == 0].assign(seed=seed)
        for seed, table in zip(seeds, runs.predictions[chosen["backbone"]], strict=True)
    )
    mistakes, explanations = gather_mistakes(runs, chosen["backbone"])
    tables = {
        "summary": summary,
        "comparisons": comparison_table(comparisons),
        "recall": recall_table(runs, classes, params.confidence),
        "slices": slice_table(runs, bootstrap, params.confidence),
        "robustness": robustness_table(runs, bootstrap, params.confidence),
        "reliability": reliability_table(runs, bootstrap, bins, params.confidence),
        "curves": curves[["backbone", "seed", *curves.columns[:-2]]],
        "confusion": confusion_table(runs),
        "winner": winner[["seed", "image", "class", "predicted", "confidence"]],
        "mistakes": mistakes,
    }

    with stage.outputs(args.output) as out:
        for name, table in tables.items():
            table.to_csv(out / f"{name}.csv", index=False, float_format="%.6g", lineterminator="\n")
        np.savez_compressed(out / "mistakes.npz", **explanations)
        write_json(out / "metrics.json", headline(summary, comparisons))
    tied = ", ".join(summary["backbone"][1:][summary["tied"] == 1])
    log.info(
        "%s, chosen on val, has %.1f %% (%.1f to %.1f) of %d clean test pictures right; %s",
        chosen["backbone"],
        *(100 * chosen[key] for key in ("accuracy", "accuracy_low", "accuracy_high")),
        chosen["test_images"],
        f"not told apart from {tied}" if tied else "told apart from all others",
    )


if __name__ == "__main__":
    parser = stage_parser(__doc__)
    parser.add_argument("--train", type=Path, required=True, help="folder of all trainings")
    parser.add_argument("--evaluate", type=Path, required=True, help="folder of all evaluations")
    parser.add_argument("--cost", type=Path, required=True, help="folder of all costs")
    parser.add_argument("--choice", type=Path, required=True, help="choice.csv")
    parser.add_argument("--output", type=Path, required=True, help="folder to write to")
    run_stage(parser, aggregate)
