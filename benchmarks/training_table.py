"""Format the table of benchmarks/training.py."""

from __future__ import annotations

import statistics
from typing import Any

from study import middle, table_row

Run = dict[str, Any]


def wilson(share: float, count: int) -> tuple[float, float]:
    """Return Wilson's 95 % interval of a fraction of ``count`` independent images."""
    z = 1.96
    centre = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z / (1 + z * z / count)
    half *= (share * (1 - share) / count + z * z / (4 * count**2)) ** 0.5
    return centre - half, centre + half


def until(run: Run, reach: float) -> float | None:
    """Return the CPU seconds until val accuracy reached ``reach``; None if it never did."""
    return next((each["cpu"] for each in run["epochs"] if each["val_accuracy"] >= reach), None)


def table(runs: list[Run], clean: int, reach: float) -> list[str]:
    """Return a Markdown table; ratios are computed per seed, and their medians are shown."""
    head = ["px", "backbone", "system", "CPU s", "carbench / system", "wall s", "carbench / system"]
    head += ["accuracy on clean test % (95 %)", f"CPU s to {100 * reach:g} % on val"]
    lines = [table_row(list(head)), table_row(["---"] * len(head))]
    for size, model in dict.fromkeys((run["size"], run["model"]) for run in runs):
        here = [run for run in runs if (run["size"], run["model"]) == (size, model)]
        ours = [run for run in here if run["system"] == "carbench"]
        for system in dict.fromkeys(run["system"] for run in here):
            own = [run for run in here if run["system"] == system]
            cells: list[object] = [size, model, f"{system}{own[0]['setting']}"]
            for key in ("cpu", "wall"):
                cells.append(middle([run[key] for run in own]))
                shares = [one[key] / other[key] for one, other in zip(ours, own, strict=True)]
                cells.append("" if system == "carbench" else middle(shares, 2))
            mean = statistics.mean(run["accuracy"] for run in own)
            low, high = wilson(mean, clean)
            cells.append(f"{100 * mean:.1f} ({100 * low:.1f} to {100 * high:.1f})")
            times = [each for run in own if (each := until(run, reach)) is not None]
            missed = f", {len(own) - len(times)} never" if len(times) < len(own) else ""
            cells.append((middle(times) if times else "none") + missed)
            lines.append(table_row(cells))
    return lines
