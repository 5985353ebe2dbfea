"""Measure rows one after the other within a time limit, and write each when it is done."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
Row = dict[str, Any]


@dataclass(frozen=True)
class Job:
    """A row to measure.

    Attributes:
        what: what is measured, for the column `of`.
        seconds: estimated duration.
    """

    section: str
    what: str
    measure: Callable[[], Row]
    seconds: float


@dataclass
class Report:
    """The rows measured so far, written to gpu.md and gpu.json and printed."""

    folder: Path
    about: Row
    rows: dict[str, list[Row]] = field(default_factory=dict)

    def add(self, section: str, row: Row) -> None:
        """Add a row, print it, and rewrite both files."""
        self.rows.setdefault(section, []).append(row)
        print(f"{section}: " + ", ".join(f"{key} {row[key]}" for key in row), flush=True)
        document = {"about": self.about, "sections": self.rows}
        (self.folder / "gpu.json").write_text(json.dumps(document, indent=1) + "\n")
        (self.folder / "gpu.md").write_text(self.markdown())

    def markdown(self) -> str:
        """Return a table for each section."""
        lines = [", ".join(f"{key} {value}" for key, value in self.about.items()) + "."]
        for section, rows in self.rows.items():
            columns = list(dict.fromkeys(column for row in rows for column in row))
            lines += ["", f"## {section}", "", "| " + " | ".join(columns) + " |"]
            lines.append("|---" * len(columns) + "|")
            for row in rows:
                cells = (str(row.get(column, "")) for column in columns)
                lines.append("| " + " | ".join(cell.replace("|", "/") for cell in cells) + " |")
        return "\n".join(lines) + "\n"


def run(jobs: list[Job], report: Report, seconds: float) -> None:
    """Measure the rows that fit into the time limit, in order; others record why they did not."""
    deadline = time.monotonic() + seconds

    def stop(*_: object) -> None:
        raise TimeoutError("the time limit was reached")

    signal.signal(signal.SIGALRM, stop)
    for job in jobs:
        left = deadline - time.monotonic()
        started = time.monotonic()
        row: Row = {"of": job.what}
        if left < job.seconds:
            row["not measured"] = f"takes about {job.seconds:.0f} s, {max(left, 0):.0f} s were left"
        else:
            signal.alarm(max(int(left), 1))
            try:
                row |= job.measure()
            except Exception as error:
                reason = " ".join(str(error).split()) or "no message"
                row["not measured"] = f"{type(error).__name__}: {reason:.300}"
            finally:
                signal.alarm(0)
        report.add(job.section, row | {"took s": round(time.monotonic() - started, 1)})
