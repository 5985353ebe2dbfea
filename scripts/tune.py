"""tune: find a backbone's learning rate, in a budget that is the same for all backbones.

Writes a row a tried rate with the best epoch of its trial, and which rate was chosen on val; no
rows if ``tune.learning_rates`` is empty.
"""

from pathlib import Path

from carbench.models.checkpoints import is_pretrained
from carbench.params.base import parse
from carbench.params.train import TrainParams, recipe_of
from carbench.params.tune import TuneParams
from carbench.stage import Stage, log, run_stage, stage_parser
from carbench.tables import write_table
from carbench.training.tuning import COLUMNS, trial


def tune(stage: Stage) -> None:
    args = stage.args
    recipe = recipe_of(
        stage.value("train"),
        stage.value("backbones.{backbone}.train"),
        pretrained=is_pretrained(args.weights),
    )
    params = parse(recipe, TrainParams, f"backbones.{args.backbone}.train", args.params)
    budget = stage.params("tune", TuneParams)

    rows = []
    if budget.learning_rates:
        # Loaded only where there is something to try: torch and timm take seconds.
        from carbench.models.devices import prepare
        from carbench.training.run import best_rate, load_material, try_rate

        material = load_material(args.pack, args.split, budget.seed, prepare(params, "train"))
        tried = {}
        for place, lr in enumerate(budget.learning_rates):
            recipe_of_trial = trial(params, budget, lr)
            checkpoint = stage.scratch and stage.scratch / f"trial-{place}.pt"
            tried[lr] = try_rate(
                args.weights, material, recipe_of_trial, budget.seed, args.backbone, checkpoint
            )
        chosen = best_rate(tried, params.select)
        rows = [
            {
                "lr": lr,
                "epoch": epoch.epoch,
                "val_accuracy": epoch.val_accuracy,
                "val_loss": epoch.val_loss,
                "chosen": int(lr == chosen),
            }
            for lr, epoch in tried.items()
        ]
        log.info("chose learning rate %g of %s", chosen, budget.learning_rates)
    with stage.output(args.output) as path:
        write_table(path, COLUMNS, rows)


if __name__ == "__main__":
    parser = stage_parser(__doc__)
    parser.add_argument("--backbone", required=True, help="a name under `backbones:`")
    parser.add_argument("--pack", type=Path, required=True, help="what pack wrote")
    parser.add_argument("--split", type=Path, required=True, help="split.csv")
    parser.add_argument("--weights", type=Path, required=True, help="what weights wrote")
    parser.add_argument("--output", type=Path, required=True, help="CSV file to write")
    run_stage(parser, tune)
