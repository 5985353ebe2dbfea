"""report: one page with the answer, how sure it is, and what it rests on.

Writes a single HTML file that needs nothing else: pictures, figures and style are inside.
"""

from pathlib import Path

from carbench.params.report import ReportParams
from carbench.report.evidence import gather
from carbench.report.page import render
from carbench.stage import Stage, log, run_stage, stage_parser


def report(stage: Stage) -> None:
    args = stage.args
    params = stage.params("report", ReportParams)
    evidence = gather(
        data=args.data,
        audit=args.audit,
        split=args.split,
        train=args.train,
        choice=args.choice,
        evaluate=args.evaluate,
        cost=args.cost,
        tables=args.tables,
        screen=args.screen,
        shortlist=args.shortlist,
    )
    sheet = args.audit / "groups.jpg"
    page = render(evidence, args.data / "images", sheet, args.figures, params)
    with stage.output(args.output) as path:
        path.write_text(page, encoding="utf-8", newline="\n")
    log.info("%s, %.1f MB", args.output, len(page) / 1e6)


if __name__ == "__main__":
    parser = stage_parser(__doc__)
    parser.add_argument("--data", type=Path, required=True, help="what fetch wrote")
    parser.add_argument("--audit", type=Path, required=True, help="what audit wrote")
    parser.add_argument("--split", type=Path, required=True, help="split.csv")
    parser.add_argument("--train", type=Path, required=True, help="folder of all trainings")
    parser.add_argument("--choice", type=Path, required=True, help="choice.csv")
    parser.add_argument("--evaluate", type=Path, required=True, help="folder of all evaluations")
    parser.add_argument("--cost", type=Path, required=True, help="folder of all costs")
    parser.add_argument("--tables", type=Path, required=True, help="folder of aggregate's tables")
    parser.add_argument("--screen", type=Path, required=True, help="folder of all screened pools")
    parser.add_argument("--shortlist", type=Path, required=True, help="what shortlist wrote")
    parser.add_argument("--figures", type=Path, required=True, help="folder of all figures")
    parser.add_argument("--output", type=Path, required=True, help="HTML file to write")
    run_stage(parser, report)
