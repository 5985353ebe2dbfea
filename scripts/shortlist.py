"""shortlist: select the screened candidates that are worth fine-tuning.

Writes ``shortlist.csv`` (one row per screened candidate, the most accurate first: its interval, how
far it is behind the best, whether it is tied with it, whether it is on the shortlist) and
``metrics.json`` (the numbers that DVC compares). `carbench shortlist` then writes the shortlist
into params.yaml as ``backbones``.
"""

from pathlib import Path

from carbench.core.stage import Stage, log, run_stage, stage_parser
from carbench.core.tables import write_json, write_table
from carbench.params.shortlist import ShortlistParams
from carbench.statistics.screening_results import (
    COLUMNS,
    read_screened,
    shortlist_metrics,
    shortlist_rows,
)


def shortlist(stage: Stage) -> None:
    params = stage.params("shortlist", ShortlistParams)
    pools = list(stage.value("screen.candidates"))
    screened = read_screened(stage.args.screen, pools)
    rows = shortlist_rows(screened, params)
    metrics = shortlist_metrics(screened, rows)
    with stage.outputs(stage.args.output) as out:
        write_table(out / "shortlist.csv", COLUMNS, rows)
        write_json(out / "metrics.json", metrics)
    if rows:
        log.info(
            "%s of %d screened candidates: %s",
            metrics["shortlisted"],
            metrics["screened"],
            metrics["shortlist"],
        )
    else:
        log.info("no candidates were screened")


if __name__ == "__main__":
    parser = stage_parser(__doc__)
    parser.add_argument("--screen", type=Path, required=True, help="folder of all screened pools")
    parser.add_argument("--output", type=Path, required=True, help="folder to write to")
    run_stage(parser, shortlist)
