"""Which training is exported: decided by val, or by the person."""

from __future__ import annotations

from pathlib import Path

from carbench.core.tables import read_table
from carbench.params.export import CHOSEN, ExportParams


def select_run(params: ExportParams, choice: Path) -> tuple[str, int]:
    """Return backbone and seed.

    Args:
        params: what was asked for.
        choice: what stage choose wrote.
    """
    rows = read_table(choice, ("backbone", "chosen", "seed"))
    if params.backbone == CHOSEN:
        (row,) = (row for row in rows if row["chosen"] == "1")
    else:
        (row,) = (row for row in rows if row["backbone"] == params.backbone)
    seed = params.seed if isinstance(params.seed, int) else int(row["seed"])
    return row["backbone"], seed
