"""The sections of the report, in reading order.

To add one: a module with a ``SECTION``, a template of its name beside it, and its place here.
"""

from carbench.report.sections import (
    answer,
    backbones,
    classes,
    conditions,
    confidence,
    images,
    label_errors,
    learning_curve,
    provenance,
    screening,
    sure,
    variance_parts,
    words,
)
from carbench.report.sections.section import Section

SECTIONS: tuple[Section, ...] = (
    answer.SECTION,
    screening.SECTION,
    backbones.SECTION,
    variance_parts.SECTION,
    learning_curve.SECTION,
    classes.SECTION,
    confidence.SECTION,
    sure.SECTION,
    conditions.SECTION,
    label_errors.SECTION,
    images.SECTION,
    words.SECTION,
    provenance.SECTION,
)
