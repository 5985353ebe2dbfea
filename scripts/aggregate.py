"""aggregate: from single runs to the answer.

Writes ``summary.csv`` (a row a backbone, the chosen one first), ``comparisons.csv`` (paired
differences), ``curves.csv`` (all epochs), ``confusion.csv`` (counts), ``winner.csv`` (the chosen
backbone's predictions, for DVC's plots) and ``metrics.json`` (the numbers DVC compares).
"""

from pathlib import Path

import pandas as pd

from carbench.params.aggregate import AggregateParams
from carbench.stage import Stage, log, run_stage, stage_parser
from carbench.summarizing import confusion, headline, read_runs, summarize
from carbench.tables import read_json, write_json


def aggregate(stage: Stage) -> None:
    args = stage.args
    params = stage.params("aggregate", AggregateParams)
    backbones = list(stage.value("backbones"))
    seeds: list[int] = stage.value("seeds")

    runs = read_runs(args.evaluate, backbones, seeds)
    costs = {name: read_json(args.cost / f"{name}.json") for name in backbones}
    summary, comparisons = summarize(runs, costs, params)
    best = summary.iloc[0]  # the chosen backbone stands first
    curves = pd.concat(
        pd.read_csv(args.train / run.backbone / str(run.seed) / "history.csv").assign(
            backbone=run.backbone, seed=run.seed
        )
        for run in runs
    )
    winner = pd.concat(
        run.clean.assign(seed=run.seed) for run in runs if run.backbone == best["backbone"]
    )

    with stage.outputs(args.output) as out:
        tables = {
            "summary": summary,
            "comparisons": comparisons,
            "curves": curves[["backbone", "seed", *curves.columns[:-2]]],
            "confusion": confusion(runs),
            "winner": winner[["seed", "image", "class", "predicted", "confidence"]],
        }
        for name, table in tables.items():
            table.to_csv(out / f"{name}.csv", index=False, float_format="%.6g", lineterminator="\n")
        write_json(out / "metrics.json", headline(summary))
    log.info(
        "%s was best on val; on %d clean test pictures %.1f %% (%.1f to %.1f)",
        best["backbone"],
        best["test_images"],
        *(100 * best[key] for key in ("accuracy", "accuracy_low", "accuracy_high")),
    )


if __name__ == "__main__":
    parser = stage_parser(__doc__)
    parser.add_argument("--train", type=Path, required=True, help="folder of all trainings")
    parser.add_argument("--evaluate", type=Path, required=True, help="folder of all evaluations")
    parser.add_argument("--cost", type=Path, required=True, help="folder of all costs")
    parser.add_argument("--output", type=Path, required=True, help="folder to write to")
    run_stage(parser, aggregate)
