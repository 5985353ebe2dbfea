"""plot: draw one figure from one table.

Writes an SVG that is the same to the byte on every run. Reads the style that all figures share
and the figure's own section, so that a figure's keys redraw it alone.
"""

from collections.abc import Callable
from pathlib import Path

from matplotlib.figure import Figure

from carbench.figures.style import Style, save
from carbench.params.plot import (
    AccuracyParams,
    ConfusionParams,
    CurvesParams,
    ParetoParams,
    StyleParams,
)
from carbench.stage import Stage, log, run_stage, stage_parser

PARAMS = {
    "accuracy": AccuracyParams,
    "pareto": ParetoParams,
    "curves": CurvesParams,
    "confusion": ConfusionParams,
}


def drawing(name: str) -> Callable[..., Figure]:
    """What draws a figure. Each loads its own libraries: seaborn alone takes longer than a plot."""
    if name == "accuracy":
        from carbench.figures.accuracy import draw
    elif name == "pareto":
        from carbench.figures.pareto import draw
    elif name == "curves":
        from carbench.figures.curves import draw
    else:
        from carbench.figures.confusion import draw
    return draw


def plot(stage: Stage) -> None:
    args = stage.args
    style = Style(stage.params("plot.style", StyleParams))
    params = stage.params("plot.{figure}", PARAMS[args.figure])
    figure = drawing(args.figure)(args.table, style, params)
    with stage.output(args.output) as path:
        save(figure, path, salt=args.figure)
    log.info("%s", args.output)


if __name__ == "__main__":
    parser = stage_parser(__doc__)
    parser.add_argument("--figure", choices=sorted(PARAMS), required=True, help="what to draw")
    parser.add_argument("--table", type=Path, required=True, help="the CSV that it is drawn from")
    parser.add_argument("--output", type=Path, required=True, help="SVG file to write")
    run_stage(parser, plot)
