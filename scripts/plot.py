"""plot: draw one figure from one table.

Writes ``<figure>.svg`` and, for slides and print, ``<figure>.png``, the same to the byte on every
run. Reads the style that all figures share and the figure's own section, so that a figure's keys
redraw it alone.
"""

from pathlib import Path

from carbench.figures import (
    accuracy,
    classes,
    confusion,
    curves,
    differences,
    leak,
    mistakes,
    pareto,
    recall,
    reliability,
    robustness,
    screening,
)
from carbench.figures.style import Style, save
from carbench.params.plot import PlotParams, StyleParams
from carbench.stage import Stage, log, run_stage, stage_parser

DRAWINGS = {
    "accuracy": accuracy.draw,
    "pareto": pareto.draw,
    "differences": differences.draw,
    "confusion": confusion.draw,
    "recall": recall.draw,
    "curves": curves.draw,
    "reliability": reliability.draw,
    "leak": leak.draw,
    "robustness": robustness.draw,
    "classes": classes.draw,
    "mistakes": mistakes.draw,
    "screening": screening.draw,
}


def plot(stage: Stage) -> None:
    args = stage.args
    style = Style(stage.params("plot.style", StyleParams))
    own = PlotParams.model_fields[args.figure].annotation
    params = stage.params("plot.{figure}", own)
    figure = DRAWINGS[args.figure](args.table, style, params)
    with stage.outputs(args.output) as folder:
        save(figure, folder / args.figure, style.dpi)
    log.info("%s", args.output / f"{args.figure}.svg")


if __name__ == "__main__":
    parser = stage_parser(__doc__)
    parser.add_argument("--figure", choices=DRAWINGS, required=True, help="what to draw")
    parser.add_argument(
        "--table",
        type=Path,
        required=True,
        help="the CSV or JSON that it is drawn from; mistakes.npz lies beside mistakes.csv",
    )
    parser.add_argument("--output", type=Path, required=True, help="folder to write to")
    run_stage(parser, plot)
