"""Definition of a section of the report."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from carbench.params.report import ReportParams
from carbench.report.study_results import StudyResults


@dataclass(frozen=True)
class ReportSection:
    """A section of the page: a module and, in the same folder, a template of the same name.

    Attributes:
        name: name of the module, of the template and of the anchor on the page.
        title: title in the table of contents.
        load: reads what the template needs in addition to the study, as ``content``; None omits the
            section.
        figures: alternative text of each figure, by name; all numbers are also in tables.
        tables: names of the tables offered for download, without ``.csv``.
    """

    name: str
    title: str
    load: Callable[[StudyResults, ReportParams], Any]
    figures: Mapping[str, str] = field(default_factory=dict)
    tables: tuple[str, ...] = ()
