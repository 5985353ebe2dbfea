"""draw: draw the order of the duplicate groups from which fractions of the train set are selected.

Writes ``order.csv``, the position of each group on the circle of ``carbench.data.split.subsets``.
The order does not depend on the fractions and seeds of the study, so that adding one does not
repeat a training run.
"""

from pathlib import Path

from carbench.core.stage import Stage, log, run_stage, stage_parser
from carbench.data.split.subsets import draw_positions, write_positions
from carbench.data.split.table import read_split


def draw(stage: Stage) -> None:
    seed: int = stage.value("learning_curve.draw_seed")
    positions = draw_positions(read_split(stage.args.split, 0).groups, seed)
    with stage.output(stage.args.output) as path:
        write_positions(path, positions)
    log.info("%s duplicate groups", f"{len(positions.groups):,}")


if __name__ == "__main__":
    parser = stage_parser(__doc__)
    parser.add_argument("--split", type=Path, required=True, help="split.csv")
    parser.add_argument("--output", type=Path, required=True, help="CSV file to write")
    run_stage(parser, draw)
