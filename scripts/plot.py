"""plot: draw one figure from one table.

Writes an SVG that is the same to the byte on every run. Reads the style that all figures share
and the figure's own section, so that a figure's keys redraw it alone.
"""

from pathlib import Path

from carbench.figures import accuracy, confusion, curves, pareto
from carbench.figures.style import Style, save
from carbench.params.plot import (
    AccuracyParams,
    ConfusionParams,
    CurvesParams,
    ParetoParams,
    StyleParams,
)
from carbench.stage import Stage, log, run_stage, stage_parser

# Each figure: what draws it, and its parameters.
FIGURES = {
    "accuracy": (accuracy.draw, AccuracyParams),
    "pareto": (pareto.draw, ParetoParams),
    "curves": (curves.draw, CurvesParams),
    "confusion": (confusion.draw, ConfusionParams),
}


def plot(stage: Stage) -> None:
    args = stage.args
    style = Style(stage.params("plot.style", StyleParams))
    draw, model = FIGURES[args.figure]
    params = stage.params("plot.{figure}", model)
    figure = draw(args.table, style, params)
    with stage.output(args.output) as path:
        save(figure, path, salt=args.figure)
    log.info("%s", args.output)


if __name__ == "__main__":
    parser = stage_parser(__doc__)
    parser.add_argument("--figure", choices=sorted(FIGURES), required=True, help="what to draw")
    parser.add_argument("--table", type=Path, required=True, help="the CSV that it is drawn from")
    parser.add_argument("--output", type=Path, required=True, help="SVG file to write")
    run_stage(parser, plot)
