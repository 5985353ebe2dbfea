"""Values of the columns ``kind`` of candidates.csv and ``verdict`` of reviewed pairs."""

from __future__ import annotations

# Classification of a pair by the audit.
FOUND, DOUBTFUL, OTHER = "found", "doubtful", "other"

# Manual verdict; empty if the pair is not reviewed.
SAME, DIFFERENT = VERDICTS = ("same", "different")
