"""The sections of the report, in reading order.

To add a section, write a module that defines ``SECTION`` and a template of the same name, and list
it here.
"""

from carbench.report.sections import (
    backbones,
    calibration,
    class_results,
    data_audit,
    glossary,
    label_errors,
    learning_curve,
    provenance,
    recommendation,
    robustness,
    screening,
    selective_prediction,
    variance_parts,
)
from carbench.report.sections.section import ReportSection

SECTIONS: tuple[ReportSection, ...] = (
    recommendation.SECTION,
    screening.SECTION,
    backbones.SECTION,
    variance_parts.SECTION,
    learning_curve.SECTION,
    class_results.SECTION,
    calibration.SECTION,
    selective_prediction.SECTION,
    robustness.SECTION,
    label_errors.SECTION,
    data_audit.SECTION,
    glossary.SECTION,
    provenance.SECTION,
)
