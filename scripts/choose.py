"""choose: decide on val which backbone to deploy, before anything has seen the test pictures.

Reads val predictions and costs, nothing of stage evaluate. Writes ``choice.csv``: a row a backbone,
the best on val first.
"""

from pathlib import Path

from carbench.params.choose import ChooseParams
from carbench.stage import Stage, log, run_stage, stage_parser
from carbench.statistics.answers import align, read_tables
from carbench.statistics.choosing import choose, explain
from carbench.tables import read_json, write_table


def choose_backbone(stage: Stage) -> None:
    args = stage.args
    params = stage.params("choose", ChooseParams)
    backbones = list(stage.value("backbones"))
    seeds: list[int] = stage.value("seeds")

    places = {
        name: [args.train / name / str(seed) / "val.csv" for seed in seeds] for name in backbones
    }
    costs = {name: read_json(args.cost / f"{name}.json") for name in backbones}
    candidates = choose(align(read_tables(places), places), costs, params)

    rows = [
        {
            "backbone": each.backbone,
            "chosen": int(each.chosen),
            "tied": int(each.tied),
            "eligible": int(each.eligible),
            "val_accuracy": f"{each.accuracy.value:.6g}",
            "val_low": f"{each.accuracy.low:.6g}",
            "val_high": f"{each.accuracy.high:.6g}",
            "difference": f"{each.behind.value:.6g}",
            "difference_low": f"{each.behind.low:.6g}",
            "difference_high": f"{each.behind.high:.6g}",
            "p_adjusted": f"{each.p_adjusted:.6g}",
            "cost": f"{each.cost:.12g}",
            "cost_by": params.cost,
        }
        for each in candidates
    ]
    with stage.output(args.output) as path:
        write_table(path, list(rows[0]), rows)
    log.info("%s", explain(candidates, params))


if __name__ == "__main__":
    parser = stage_parser(__doc__)
    parser.add_argument("--train", type=Path, required=True, help="folder of all trainings")
    parser.add_argument("--cost", type=Path, required=True, help="folder of all costs")
    parser.add_argument("--output", type=Path, required=True, help="CSV file to write")
    run_stage(parser, choose_backbone)
