"""The whole of params.yaml: checked before any work starts, so that a late mistake costs nothing.

A stage reads its own section only. This module is a guard: it may refuse a study but can never
change a result, and is therefore not part of the code that a stage depends on.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import Field

from carbench.errors import CarbenchError
from carbench.params.aggregate import AggregateParams
from carbench.params.audit import AuditParams
from carbench.params.base import Section, parse, read_yaml
from carbench.params.choose import ChooseParams
from carbench.params.cost import CostParams
from carbench.params.data import DataParams
from carbench.params.evaluate import EvaluateParams
from carbench.params.pack import PackParams
from carbench.params.plot import PlotParams
from carbench.params.report import ReportParams
from carbench.params.split import SplitParams
from carbench.params.train import BackboneParams, TrainParams, merge

# A backbone's name becomes a folder, a stage name and a parameter path.
BACKBONE_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")


class Study(Section):
    """All sections of params.yaml."""

    data: DataParams
    audit: AuditParams
    split: SplitParams
    pack: PackParams
    backbones: dict[str, BackboneParams]
    seeds: Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)]
    train: TrainParams
    evaluate: EvaluateParams
    cost: CostParams
    choose: ChooseParams
    aggregate: AggregateParams
    plot: PlotParams
    report: ReportParams


def check(path: Path) -> Study:
    """Read and check a whole parameter file; :class:`CarbenchError` names every mistake."""
    content = read_yaml(path)
    study = parse(content, Study, "", path)
    _refuse_dialects(path, content)
    if len(set(study.seeds)) < len(study.seeds):
        raise CarbenchError(
            path,
            key="seeds",
            found=f"{study.seeds}",
            expected="each seed once",
            fix="remove the repeated seed",
        )
    if not study.backbones:
        raise CarbenchError(
            path,
            key="backbones",
            found="none",
            expected="at least one backbone",
            fix="add one as in presets/",
        )
    if study.pack.size < study.train.image_size:
        raise CarbenchError(
            path,
            key="pack.size",
            found=f"{study.pack.size} pixels",
            expected=f"at least train.image_size = {study.train.image_size}",
            fix="raise pack.size or lower train.image_size",
        )
    for name, backbone in study.backbones.items():
        _check_backbone(path, content["train"], name, backbone)
    return study


def _refuse_dialects(path: Path, content: dict[str, Any]) -> None:
    """Refuse what Snakemake (YAML 1.1) and DVC (YAML 1.2) would read as different values."""
    older = dict(_leaves(yaml.safe_load(path.read_text(encoding="utf-8"))))
    for key, value in _leaves(content):
        if key not in older or older[key] != value:
            raise CarbenchError(
                path,
                key=key,
                found=f"a spelling that DVC reads as {value!r} and Snakemake as {older.get(key)!r}",
                expected="one value for both",
                fix="write numbers as 1.0e-3 or 10, truth as true or false, and quote texts",
            )


def _leaves(value: Any, above: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict) and value:
        for key, below in value.items():
            yield from _leaves(below, f"{above}.{key}" if above else str(key))
    else:
        yield above, value


def _check_backbone(
    path: Path, recipe: dict[str, object], name: str, backbone: BackboneParams
) -> None:
    key = f"backbones.{name}"
    if not BACKBONE_NAME.fullmatch(name):
        raise CarbenchError(
            path,
            key=key,
            found=f"the name {name!r}",
            expected="letters, digits, - and _ (it names folders and stages)",
            fix="choose a short name and give timm's name as `model:`",
        )
    if "image_size" in backbone.train:
        raise CarbenchError(
            path,
            key=f"{key}.train.image_size",
            found="an override",
            expected="one picture size for all backbones, so that their costs compare",
            fix="set train.image_size",
        )
    parse(merge(recipe, backbone.train), TrainParams, f"{key}.train", path)
