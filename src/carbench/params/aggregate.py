"""`aggregate:` - how the intervals are computed (stage aggregate)."""

from __future__ import annotations

from carbench.params.bootstrap import BootstrapSection


class AggregateParams(BootstrapSection):
    """The bootstrap over the groups of test pictures."""
