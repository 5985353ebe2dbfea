"""Loading of the results of an experiment, a commit or the workspace."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import Any

import pandas as pd
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from carbench.core.errors import CarbenchError
from carbench.engines.revisions import Revision
from carbench.statistics.experiment_comparison import Experiment
from carbench.statistics.predictions import COLUMNS, align, parse_csv, parse_predictions, splits_of

CHOICE = "results/choose/choice.csv"
MANIFEST = "results/data/manifest.csv"


def read_params(revision: Revision) -> dict[str, Any]:
    """Return the params.yaml of a revision.

    Raises:
        CarbenchError: it is missing or not that of a study.
    """
    where = revision.where("params.yaml")
    try:
        content = YAML(typ="safe").load(revision.read("params.yaml"))
    except (YAMLError, UnicodeDecodeError) as error:
        what = " ".join(str(error).split())
        raise _no_study(where, f"unreadable YAML ({what})") from None
    if not isinstance(content, dict):
        raise _no_study(where, f"a {type(content).__name__}")
    return content


def read_experiment(revision: Revision, params: dict[str, Any]) -> Experiment:
    """Return the predictions of a revision on its test images.

    Args:
        revision: the revision.
        params: its params.yaml, with the backbones and seeds.

    Raises:
        CarbenchError: a result is missing, damaged or cannot be fetched, or params.yaml has no
            backbones or seeds.
    """
    where = revision.where("params.yaml")
    backbones, seeds = params.get("backbones"), params.get("seeds")
    if not (isinstance(backbones, dict) and backbones and isinstance(seeds, list) and seeds):
        raise _no_study(where, "no `backbones:` or no `seeds:`")
    names = sorted(map(str, backbones))
    choice = _read_table(revision, CHOICE, ("backbone", "chosen"))
    chosen = choice.loc[choice["chosen"] == "1", "backbone"].tolist()
    if len(chosen) != 1 or chosen[0] not in names:
        raise CarbenchError(
            revision.where(CHOICE),
            found=f"{', '.join(chosen) or 'nothing'} as the chosen backbone",
            expected=f"one of those in params.yaml ({', '.join(names)})",
            fix="run the study again, so that its results match its params.yaml",
        )
    predictions = {
        name: [f"results/evaluate/{name}/{seed}/predictions.csv" for seed in seeds]
        for name in names
    }
    files = {
        name: [Path(revision.where(path)) for path in paths] for name, paths in predictions.items()
    }
    tables = {
        name: [
            parse_predictions(BytesIO(revision.read(path)), where, (*COLUMNS, "leaked"))
            for path, where in zip(paths, files[name], strict=True)
        ]
        for name, paths in predictions.items()
    }
    manifest = _read_table(revision, MANIFEST, ("image", "sha256"))
    content = manifest.drop_duplicates("image").set_index("image")["sha256"]
    split = params.get("split")
    repeats = split.get("repeats", 1) if isinstance(split, dict) else 1
    aligned = align(tables, files, splits_of(seeds, repeats))
    return Experiment(revision.name, chosen[0], aligned, content)


def _read_table(revision: Revision, path: str, columns: tuple[str, ...]) -> pd.DataFrame:
    """Read a CSV file as text."""
    return parse_csv(BytesIO(revision.read(path)), Path(revision.where(path)), columns, str)


def _no_study(where: str, found: str) -> CarbenchError:
    return CarbenchError(
        where,
        found=found,
        expected="the parameters of a study",
        fix="compare a commit or experiment of a study; `carbench init` starts one",
    )
