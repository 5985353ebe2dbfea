"""What a section of the report is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from carbench.params.report import ReportParams
from carbench.report.study_results import StudyResults


@dataclass(frozen=True)
class ReportSection:
    """A part of the page: a module and, beside it, a template of the same name.

    Attributes:
        name: of the module, of the template, and of its anchor on the page.
        title: in the contents; empty for a section that is not listed there.
        gather: reads what the template needs beside the study, as ``own``; None leaves it out.
        figures: that it may show, and what each shows for those who cannot see it; all their
            numbers are in tables.
        tables: that it offers for download, without ``.csv``.
    """

    name: str
    title: str
    load: Callable[[StudyResults, ReportParams], Any]
    figures: Mapping[str, str] = field(default_factory=dict)
    tables: tuple[str, ...] = ()
