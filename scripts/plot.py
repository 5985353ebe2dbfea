"""plot: draw one figure from one table.

Writes ``<figure>.svg``, ``<figure>-narrow.svg`` for a phone and, for slides and print,
``<figure>.png``, byte-identical on every run. Reads the style that all figures share and the
figure's own section, so that a change of one figure's parameters redraws only this figure.
"""

from pathlib import Path

from carbench.core.stage import Stage, log, run_stage, stage_parser
from carbench.params.plot import PlotParams, StyleParams
from carbench.report.figures import (
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
    risk_coverage,
    robustness,
    screening,
)
from carbench.report.figures import learning_curve as learning
from carbench.report.plotting.style import Style, save_figure

DRAWINGS = {
    "accuracy": accuracy.draw,
    "pareto": pareto.draw,
    "differences": differences.draw,
    "confusion": confusion.draw,
    "recall": recall.draw,
    "curves": curves.draw,
    "reliability": reliability.draw,
    "risk_coverage": risk_coverage.draw,
    "leak": leak.draw,
    "robustness": robustness.draw,
    "classes": classes.draw,
    "mistakes": mistakes.draw,
    "screening": screening.draw,
    "learning_curve": learning.draw,
}


def plot(stage: Stage) -> None:
    args = stage.args
    style_params = stage.params("plot.style", StyleParams)
    own = PlotParams.model_fields[args.figure].annotation
    params = stage.params("plot.{figure}", own)
    with stage.outputs(args.output) as folder:
        for narrow, name in ((False, args.figure), (True, f"{args.figure}-narrow")):
            figure = DRAWINGS[args.figure](args.table, Style(style_params, narrow), params)
            save_figure(figure, folder / name, None if narrow else style_params.dpi)
    log.info("%s", args.output / f"{args.figure}.svg")


if __name__ == "__main__":
    parser = stage_parser(__doc__)
    parser.add_argument("--figure", choices=DRAWINGS, required=True, help="figure to draw")
    parser.add_argument(
        "--table",
        type=Path,
        required=True,
        help="CSV or JSON file to draw from; mistakes.npz must be beside mistakes.csv",
    )
    parser.add_argument("--output", type=Path, required=True, help="folder to write to")
    run_stage(parser, plot)
