"""Selection of the training run to export: by stage choose, or by the parameters."""

from __future__ import annotations

from pathlib import Path

from carbench.core.tables import read_table
from carbench.params.export import CHOSEN, ExportParams


def select_run(params: ExportParams, choice: Path) -> tuple[str, int]:
    """Return backbone and seed of the run to export.

    Args:
        params: parameters of stage export.
        choice: choice.csv, written by stage choose.
    """
    rows = read_table(choice, ("backbone", "chosen", "seed"))
    if params.backbone == CHOSEN:
        (row,) = (row for row in rows if row["chosen"] == "1")
    else:
        (row,) = (row for row in rows if row["backbone"] == params.backbone)
    seed = params.seed if isinstance(params.seed, int) else int(row["seed"])
    return row["backbone"], seed
