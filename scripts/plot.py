"""plot: draw one figure from one table.

Imports the figure's module from ``carbench.report.figures`` and calls its ``draw``. Writes
``<figure>.svg``, ``<figure>-narrow.svg`` for phones and ``<figure>.png`` for slides, byte-identical
on every run. Reads only the style shared by all figures and the figure's own parameters, so that a
change to one figure's parameters redraws only this figure.
"""

from importlib import import_module
from pathlib import Path

from carbench.core.stage import Stage, log, run_stage, stage_parser
from carbench.params.plot import PlotParams, StyleParams
from carbench.report.plotting.style import Style, save_figure

FIGURES = [name for name in PlotParams.model_fields if name != "style"]


def plot(stage: Stage) -> None:
    args = stage.args
    style = stage.params("plot.style", StyleParams)
    params = stage.params("plot.{figure}", PlotParams.model_fields[args.figure].annotation)
    draw = import_module(f"carbench.report.figures.{args.figure}").draw
    with stage.outputs(args.output) as folder:
        for narrow, name in ((False, args.figure), (True, f"{args.figure}-narrow")):
            figure = draw(args.table, Style(style, narrow), params)
            save_figure(figure, folder / name, None if narrow else style.dpi)
    log.info("%s", args.output / f"{args.figure}.svg")


if __name__ == "__main__":
    parser = stage_parser(__doc__)
    parser.add_argument("--figure", choices=FIGURES, required=True, help="figure to draw")
    parser.add_argument(
        "--table",
        type=Path,
        required=True,
        help="CSV or JSON file to draw from; for mistakes, mistakes.npz must be in the same folder",
    )
    parser.add_argument("--output", type=Path, required=True, help="folder to write to")
    run_stage(parser, plot)
