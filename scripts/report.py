"""report: write one page with the recommendation, its uncertainty and the evidence.

Writes a single self-contained HTML file, with its images, figures and style embedded.
"""

from pathlib import Path

from carbench.core.stage import Stage, log, run_stage, stage_parser
from carbench.params.report import ReportParams
from carbench.report.page import render_report
from carbench.report.study_results import ResultPaths


def report(stage: Stage) -> None:
    args = stage.args
    params = stage.params("report", ReportParams)
    sources = ResultPaths(
        data=args.data,
        audit=args.audit,
        split=args.split,
        residual=args.residual,
        train=args.train,
        choice=args.choice,
        evaluate=args.evaluate,
        cost=args.cost,
        tables=args.tables,
        screen=args.screen,
        shortlist=args.shortlist,
        learning_curve=args.learning_curve,
        figures=args.figures,
    )
    page = render_report(sources, params)
    with stage.output(args.output) as path:
        path.write_text(page, encoding="utf-8", newline="\n")
    log.info("%s, %.1f MB", args.output, len(page) / 1e6)


if __name__ == "__main__":
    parser = stage_parser(__doc__)
    parser.add_argument("--data", type=Path, required=True, help="output of fetch")
    parser.add_argument("--audit", type=Path, required=True, help="output of audit")
    parser.add_argument("--split", type=Path, required=True, help="split.csv")
    parser.add_argument("--residual", type=Path, required=True, help="split's residual.json")
    parser.add_argument("--train", type=Path, required=True, help="folder of all training runs")
    parser.add_argument("--choice", type=Path, required=True, help="choice.csv")
    parser.add_argument("--evaluate", type=Path, required=True, help="folder of all evaluations")
    parser.add_argument("--cost", type=Path, required=True, help="folder of all costs")
    parser.add_argument("--tables", type=Path, required=True, help="folder of aggregate's tables")
    parser.add_argument("--screen", type=Path, required=True, help="folder of all screened pools")
    parser.add_argument("--shortlist", type=Path, required=True, help="output of shortlist")
    parser.add_argument("--learning-curve", type=Path, required=True, help="its output folder")
    parser.add_argument("--figures", type=Path, required=True, help="folder of all figures")
    parser.add_argument("--output", type=Path, required=True, help="HTML file to write")
    run_stage(parser, report)
