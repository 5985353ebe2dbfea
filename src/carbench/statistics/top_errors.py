"""Puts the mistakes of all trainings of a backbone into one gallery."""

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
    """Return mistakes.csv and the arrays of mistakes.npz, the most confident mistake first.

    Of a duplicate group only its most confident mistake is shown. Column ``row`` is the place in
    the arrays; ``seeds_wrong`` counts the trainings that got this image wrong.
    """
    folders = runs.folders[backbone]
    files = {backbone: [folder / "mistakes.csv" for folder in folders]}
    tables = read_tables(files, (*COLUMNS, "confidence"))[backbone]
    aligned = runs.aligned
    wrong = (aligned.tested(backbone) & ~aligned.correct(backbone)).sum(axis=0)
    every = pd.concat(
        table.assign(seed=seed, run=run, place=range(len(table)))
        for run, (seed, table) in enumerate(zip(runs.seeds, tables, strict=True))
    )
    every = every.sort_values(["confidence", "image"], ascending=[False, True], kind="stable")
    shown = every.drop_duplicates("group").reset_index(drop=True)
    shown["seeds_wrong"] = wrong[aligned.positions(shown["image"])]
    shown["row"] = shown.index
    arrays = _pick([folder / "explanations.npz" for folder in folders], shown)
    columns = ["seed", "image", "class", "predicted", "confidence", "seeds_wrong", "row"]
    return shown[columns], arrays


def _pick(paths: list[Path], shown: pd.DataFrame) -> dict[str, NDArray[np.uint8]]:
    """Return the images and maps of the mistakes that are shown, in their order."""
    loaded: list[dict[str, Any]] = []
    for path in paths:
        with np.load(path) as file:
            loaded.append({name: file[name] for name in ("images", "maps")})
    starts = np.cumsum([0, *(len(arrays["maps"]) for arrays in loaded[:-1])])
    positions = starts[shown["run"].to_numpy(np.int64)] + shown["place"].to_numpy(np.int64)
    return {
        name: np.concatenate([arrays[name] for arrays in loaded])[positions]
        for name in ("images", "maps")
    }
