"""The words that stand in candidates.csv and in a person's CSV of judged pairs."""

from __future__ import annotations

# What the audit holds a pair for.
FOUND, DOUBTFUL, OTHER = "found", "doubtful", "other"

# What a person has said of it; empty if nothing.
SAME, DIFFERENT = VERDICTS = ("same", "different")
