"""Combines the most confident errors of all training runs of a backbone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from carbench.statistics.evaluated_runs import EvaluatedRuns
from carbench.statistics.predictions import COLUMNS, read_tables


def collect_mistakes(
    runs: EvaluatedRuns, backbone: str
) -> tuple[pd.DataFrame, dict[str, NDArray[np.uint8]]]:
    """Return mistakes.csv and the arrays of mistakes.npz, the most confident error first.

    Of each duplicate group, only the most confident error is kept. Column ``row`` is the index into
    the arrays; ``seeds_wrong`` is the number of training runs that misclassified the image.
    """
    folders = runs.folders[backbone]
    files = {backbone: [folder / "mistakes.csv" for folder in folders]}
    tables = read_tables(files, (*COLUMNS, "confidence"))[backbone]
    aligned = runs.aligned
    wrong = (aligned.tested(backbone) & ~aligned.correct(backbone)).sum(axis=0)
    every = pd.concat(
        table.assign(seed=seed, run=run, index=range(len(table)))
        for run, (seed, table) in enumerate(zip(runs.seeds, tables, strict=True))
    )
    every = every.sort_values(["confidence", "image"], ascending=[False, True], kind="stable")
    shown = every.drop_duplicates("group").reset_index(drop=True)
    shown["seeds_wrong"] = wrong[aligned.positions(shown["image"])]
    shown["row"] = shown.index
    arrays = _select_arrays([folder / "explanations.npz" for folder in folders], shown)
    columns = ["seed", "image", "class", "predicted", "confidence", "seeds_wrong", "row"]
    return shown[columns], arrays


def _select_arrays(paths: list[Path], shown: pd.DataFrame) -> dict[str, NDArray[np.uint8]]:
    """Return the images and attribution maps of the given errors, in their order."""
    loaded: list[dict[str, Any]] = []
    for path in paths:
        with np.load(path) as file:
            loaded.append({name: file[name] for name in ("images", "maps")})
    starts = np.cumsum([0, *(len(arrays["maps"]) for arrays in loaded[:-1])])
    positions = starts[shown["run"].to_numpy(np.int64)] + shown["index"].to_numpy(np.int64)
    return {
        name: np.concatenate([arrays[name] for arrays in loaded])[positions]
        for name in ("images", "maps")
    }
