"""`aggregate:` - how sure the answer is (stage aggregate)."""

from __future__ import annotations

from carbench.params.intervals import IntervalSection


class AggregateParams(IntervalSection):
    """How sure the intervals of the answer are."""
