"""carbench watch: show the jobs that run, how far they are, and about how long it will take.

In a terminal, the view is updated until the study is finished; otherwise it is printed once. It
reads what jobs leave behind and works with both engines, also for a study on another machine that
shares the folder.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from carbench.engines.sync import open_workspace

INTERVAL = 2.0
# Columns of a pipe.
PIPE_WIDTH = 120


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("--once", action="store_true", help="print the view once, and exit")
    parser.add_argument(
        "--interval",
        type=float,
        default=INTERVAL,
        metavar="SECONDS",
        help="time between updates (default: %(default)g)",
    )


def run(args: argparse.Namespace) -> int:
    """Show the progress."""
    # Imported here because it takes a moment.
    from rich.console import Console
    from rich.live import Live

    from carbench.tracking.progress_view import progress_view
    from carbench.tracking.study_progress import StudyProgress, study_progress

    def look() -> StudyProgress:
        workspace = open_workspace(Path())
        progress = study_progress(workspace)
        workspace.save()
        return progress

    if args.once or not sys.stdout.isatty():
        width = None if sys.stdout.isatty() else PIPE_WIDTH
        Console(highlight=False, width=width).print(progress_view(look()))
        return 0
    progress = look()
    with Live(progress_view(progress), auto_refresh=False) as live:
        while not progress.finished:
            time.sleep(args.interval)
            progress = look()
            live.update(progress_view(progress), refresh=True)
    return 0
