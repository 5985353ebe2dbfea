"""tune: find a backbone's learning rate, with the same budget for all backbones.

Writes one row per learning rate tried, with the best epoch of its trial and whether it was selected
on val; no rows if ``tune.learning_rates`` is empty.
"""

from pathlib import Path

from carbench.core.stage import Stage, log, run_stage, stage_parser
from carbench.core.tables import write_table
from carbench.params.tune import TuneParams
from carbench.training.recipe import add_training_arguments, training_recipe
from carbench.training.tune_table import COLUMNS


def tune(stage: Stage) -> None:
    args = stage.args
    params, _ = training_recipe(
        stage.value("train"),
        stage.value("backbones.{backbone}.train"),
        args.weights,
        None,
        f"backbones.{args.backbone}.train",
        args.params,
    )
    search = stage.params("tune", TuneParams)

    rows = []
    if search.learning_rates:
        # Imported only if needed: torch and timm take seconds.
        from carbench.models.devices import set_up_device
        from carbench.training.learning_rate_search import search_learning_rates
        from carbench.training.run import load_data

        data = load_data(args.pack, args.split, search.seed, set_up_device(params, "train"))
        best_epochs, chosen = search_learning_rates(
            args.weights, data, params, search, args.backbone, stage.scratch, stage.live
        )
        rows = [
            {
                "lr": lr,
                "epoch": epoch.epoch,
                "val_accuracy": epoch.val_accuracy,
                "val_loss": epoch.val_loss,
                "chosen": int(lr == chosen),
            }
            for lr, epoch in best_epochs.items()
        ]
        log.info("chose learning rate %g of %s", chosen, search.learning_rates)
    with stage.output(args.output) as path:
        write_table(path, COLUMNS, rows)


if __name__ == "__main__":
    parser = stage_parser(__doc__)
    add_training_arguments(parser)
    parser.add_argument("--output", type=Path, required=True, help="CSV file to write")
    run_stage(parser, tune)
