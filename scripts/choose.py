"""choose: select the backbone to deploy on val, before the test set is used.

Reads val predictions and costs, and nothing from stage evaluate. Writes ``choice.csv``, with one
row per backbone, the best on val first; ``seed`` is that of its best training run on val.
"""

from pathlib import Path

from carbench.core.stage import Stage, log, run_stage, stage_parser
from carbench.core.tables import write_table
from carbench.params.choose import ChooseParams
from carbench.statistics.model_selection import best_training, choose, describe_choice
from carbench.statistics.prediction_costs import read_costs
from carbench.statistics.predictions import align, read_tables, splits_of


def choose_backbone(stage: Stage) -> None:
    args = stage.args
    params = stage.params("choose", ChooseParams)
    backbones = list(stage.value("backbones"))
    seeds: list[int] = stage.value("seeds")
    splits = splits_of(seeds, stage.value("split.repeats"))

    places = {
        name: [args.train / name / str(seed) / "val.csv" for seed in seeds] for name in backbones
    }
    costs = read_costs(args.cost, backbones)
    predictions = read_tables(places)
    candidates = choose(align(predictions, places, splits), costs, params)

    rows = [
        {
            "backbone": each.backbone,
            "chosen": int(each.chosen),
            "seed": seeds[best_training(predictions[each.backbone])],
            "tied": int(each.tied),
            "eligible": int(each.eligible),
            "val_accuracy": f"{each.accuracy.value:.6g}",
            "val_low": f"{each.accuracy.low:.6g}",
            "val_high": f"{each.accuracy.high:.6g}",
            "difference": f"{each.behind.value:.6g}",
            "difference_low": f"{each.behind.low:.6g}",
            "difference_high": f"{each.behind.high:.6g}",
            "p_adjusted": f"{each.p_adjusted:.6g}",
            "loses_margin": f"{each.loses_margin:.6g}",
            "cost": f"{each.cost:.12g}",
            "cost_tied": int(each.cost_tied),
            "cost_by": params.cost,
        }
        for each in candidates
    ]
    with stage.output(args.output) as path:
        write_table(path, list(rows[0]), rows)
    log.info("%s", describe_choice(candidates, params))


if __name__ == "__main__":
    parser = stage_parser(__doc__)
    parser.add_argument("--train", type=Path, required=True, help="folder of all training runs")
    parser.add_argument("--cost", type=Path, required=True, help="output of cost")
    parser.add_argument("--output", type=Path, required=True, help="CSV file to write")
    run_stage(parser, choose_backbone)
