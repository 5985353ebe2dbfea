"""The table of stage tune: the learning rates tried for a backbone, and the selected one."""

from __future__ import annotations

from pathlib import Path

from carbench.core.tables import damaged, read_table

COLUMNS = ["lr", "epoch", "val_accuracy", "val_loss", "chosen"]


def chosen_learning_rate(path: Path) -> float | None:
    """Return the selected learning rate of tune's table; None if the study does not tune."""
    rows = read_table(path, COLUMNS)
    chosen = [float(row["lr"]) for row in rows if row["chosen"] == "1"]
    if rows and len(chosen) != 1:
        raise damaged(path, f"{len(chosen)} chosen learning rates")
    return chosen[0] if chosen else None


def tuned_overrides(path: Path) -> dict[str, float]:
    """Return the overrides from tune's table: ``lr``, or none if the study does not tune."""
    rate = chosen_learning_rate(path)
    return {} if rate is None else {"lr": rate}
