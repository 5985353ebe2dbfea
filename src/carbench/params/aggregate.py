"""`aggregate:` - confidence level of the results (stage aggregate)."""

from __future__ import annotations

from carbench.params.intervals import IntervalSection


class AggregateParams(IntervalSection):
    """Confidence level of the reported intervals."""
