"""Validates the whole params.yaml before any work starts.

A stage reads only its own section. This module may reject a study but cannot change a result, and
is therefore not part of the code that a stage depends on.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import Field

from carbench.core.errors import CarbenchError
from carbench.core.params import Section, parse, parse_yaml, read_text, reject_extreme_values
from carbench.params.aggregate import AggregateParams
from carbench.params.audit import AuditParams
from carbench.params.calibrate import CalibrateParams
from carbench.params.choose import ChooseParams
from carbench.params.cost import CostParams
from carbench.params.data import DataParams
from carbench.params.evaluate import EvaluateParams
from carbench.params.export import BEST, CHOSEN, ExportParams
from carbench.params.learning_curve import LearningCurveParams
from carbench.params.pack import PackParams
from carbench.params.plot import PlotParams
from carbench.params.report import ReportParams
from carbench.params.screen import ScreenParams
from carbench.params.shortlist import ShortlistParams
from carbench.params.split import SplitParams
from carbench.params.train import BackboneParams, TrainParams, recipe_of
from carbench.params.tune import TuneParams

# Names of backbones and pools are used as folder, stage and parameter names.
NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")


class Study(Section):
    """All sections of params.yaml."""

    data: DataParams
    audit: AuditParams
    split: SplitParams
    pack: PackParams
    screen: ScreenParams
    shortlist: ShortlistParams
    backbones: dict[str, BackboneParams]
    seeds: Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)]
    tune: TuneParams
    train: TrainParams
    learning_curve: LearningCurveParams
    evaluate: EvaluateParams
    cost: CostParams
    choose: ChooseParams
    calibrate: CalibrateParams
    aggregate: AggregateParams
    export: ExportParams
    plot: PlotParams
    report: ReportParams


def check(path: Path) -> Study:
    """Read and validate a parameter file; :class:`CarbenchError` lists all errors."""
    return check_text(read_text(path), path)


def check_text(text: str, path: Path) -> Study:
    """Validate the text of a parameter file, written or not; see :func:`check`."""
    content = parse_yaml(text, path)
    reject_extreme_values(path, content)
    _refuse_preset(path, content)
    study = parse(content, Study, "", path)
    _refuse_yaml_dialects(path, text, content)
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
            fix="add one as in presets/sample.yaml",
        )
    for key, size in (
        ("train.image_size", study.train.image_size),
        ("screen.features.image_size", study.screen.features.image_size),
    ):
        if study.pack.size < size:
            raise CarbenchError(
                path,
                key="pack.size",
                found=f"{study.pack.size} pixels",
                expected=f"at least {key} = {size}",
                fix=f"raise pack.size or lower {key}",
            )
    _check_paths(path, study)
    _check_seeds(path, study)
    _check_finetune(path, content["train"])
    for name, backbone in study.backbones.items():
        _check_backbone(path, content["train"], name, backbone)
    _check_screening(path, study)
    _check_tuning(path, study)
    _check_export(path, study)
    _check_learning_curve(path, study)
    return study


def _refuse_preset(path: Path, content: dict[str, Any]) -> None:
    """Reject a preset instead of a study, without listing the many missing keys."""
    missing = [name for name in Study.model_fields if name not in content]
    # If fewer are missing, the errors of the individual sections are more helpful.
    if 3 < len(missing) < len(Study.model_fields):
        raise CarbenchError(
            path,
            found=f"a file without {', '.join(missing[:3])}, ...",
            expected="all sections; a preset has only those that differ from presets/sample.yaml",
            fix="write params.yaml from a preset with `carbench init NAME`",
        )


def _check_paths(path: Path, study: Study) -> None:
    """Reject braces in paths, which both engines use for wildcards."""
    for key, place, fix in (
        (None, str(path.resolve()), "move the clone to a path without them"),
        ("data.path", study.data.path, "rename it"),
        ("audit.reviewed", study.audit.reviewed, "rename it"),
        ("screen.weights", study.screen.weights, "rename it"),
    ):
        if "{" in place or "}" in place:
            raise CarbenchError(
                path,
                key=key,
                found=f"braces in the path {place}",
                expected="a path without { and }, which Snakemake and DVC cannot use",
                fix=fix,
            )


def _check_seeds(path: Path, study: Study) -> None:
    """Require the same number of seeds for each fold or repeated split: they have equal weight."""
    split = study.split
    turns, what = (split.folds, "fold") if split.method == "kfold" else (split.repeats, "split")
    times = [sum(seed % turns == turn for seed in study.seeds) for turn in range(turns)]
    if min(times) == 0 or min(times) < max(times):
        raise CarbenchError(
            path,
            key="seeds",
            found=f"{study.seeds}, which use the {turns} {what}s {times} times",
            expected=f"each {what} used equally often (seed s uses {what} s mod {turns})",
            fix=f"write seeds: {list(range(turns))}, or a multiple of that",
        )


def _refuse_yaml_dialects(path: Path, text: str, content: dict[str, Any]) -> None:
    """Reject values that Snakemake (YAML 1.1) and DVC (YAML 1.2) parse differently."""
    older = dict(_leaves(yaml.safe_load(text)))
    for key, value in _leaves(content):
        if key not in older or older[key] != value:
            raise CarbenchError(
                path,
                key=key,
                found=f"a spelling that DVC reads as {value!r} and Snakemake as {older.get(key)!r}",
                expected="one value for both",
                fix="write numbers as 1.0e-3 or 10, booleans as true or false, and quote strings",
            )


def _leaves(value: Any, above: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict) and value:
        for key, below in value.items():
            yield from _leaves(below, f"{above}.{key}" if above else str(key))
    else:
        yield above, value


def _check_backbone(
    path: Path, recipe: dict[str, Any], name: str, backbone: BackboneParams
) -> None:
    key = f"backbones.{name}"
    if not NAME.fullmatch(name):
        raise CarbenchError(
            path,
            key=key,
            found=f"the name {name!r}",
            expected="letters, digits, - and _ (it names folders and stages)",
            fix="choose a short name and give timm's name as `model:`",
        )
    _refuse_keys_of_all_backbones(path, f"{key}.train", backbone.train)
    merged_recipe = recipe_of(recipe, backbone.train, backbone.weights != "random")
    merged = parse(merged_recipe, TrainParams, f"{key}.train", path)
    if backbone.weights == "random":
        _refuse_frozen_random_body(path, f"{key}.train", merged)


def _check_finetune(path: Path, recipe: dict[str, Any]) -> None:
    """Reject errors in `train.finetune`, even if no backbone has pretrained weights."""
    finetune = recipe["finetune"]
    _refuse_keys_of_all_backbones(path, "train.finetune", finetune)
    if "finetune" in finetune:
        raise CarbenchError(
            path,
            key="train.finetune.finetune",
            found="a nested finetune section",
            expected="keys of train:",
            fix="remove it",
        )
    parse(recipe_of(recipe, {}, pretrained=True), TrainParams, "train.finetune", path)


def _refuse_keys_of_all_backbones(path: Path, key: str, overrides: dict[str, Any]) -> None:
    for name, expected in (
        ("image_size", "one image size for all backbones, so that their costs are comparable"),
        ("profile", "one value for all backbones: an override would rerun the training"),
    ):
        if name in overrides:
            raise CarbenchError(
                path,
                key=f"{key}.{name}",
                found="an override",
                expected=expected,
                fix=f"set train.{name}",
            )


def _refuse_frozen_random_body(path: Path, key: str, recipe: TrainParams) -> None:
    """Reject a frozen or slowed body for a random initialisation."""
    for name, off in (("freeze_epochs", 0), ("backbone_lr_scale", 1.0)):
        value = getattr(recipe, name)
        if value != off:
            raise CarbenchError(
                path,
                key=f"{key}.{name}",
                found=f"{value} for a backbone with random weights",
                expected=f"{off}: a randomly initialised body has to be trained",
                fix=f"set train.{name}: {off}, at least for this backbone, or use pretrained "
                "weights",
            )


def _check_screening(path: Path, study: Study) -> None:
    """Reject invalid pool names, and splits whose training images are tested in other runs."""
    for name in study.screen.candidates:
        if not NAME.fullmatch(name):
            raise CarbenchError(
                path,
                key=f"screen.candidates.{name}",
                found=f"the name {name!r}",
                expected="letters, digits, - and _ (it names folders and stages)",
                fix="choose a short name for this pool of candidates",
            )
    if study.screen.has_candidates and study.split.reuses_test_images:
        raise CarbenchError(
            path,
            key="screen.candidates",
            found=f"candidates, with {study.split.reuse_setting}",
            expected="none: it would screen on test images of other training runs",
            fix="screen with split.method: grouped and split.repeats: 1, then run "
            "`carbench shortlist` and remove the candidates",
        )


def _check_tuning(path: Path, study: Study) -> None:
    """Reject settings that contradict a learning rate tuned on val."""
    if not study.tune.learning_rates:
        return
    if study.split.reuses_test_images:
        raise CarbenchError(
            path,
            key="tune.learning_rates",
            found=f"{study.tune.learning_rates} with {study.split.reuse_setting}",
            expected="[]: it would tune on test images of other training runs",
            fix="tune with split.method: grouped and split.repeats: 1, then write the rates into "
            "train.lr and set tune.learning_rates: []",
        )
    for name, backbone in study.backbones.items():
        if "lr" in backbone.train:
            raise CarbenchError(
                path,
                key=f"backbones.{name}.train.lr",
                found=f"{backbone.train['lr']} in addition to tune.learning_rates",
                expected="one of the two",
                fix="remove it, or disable tuning with tune.learning_rates: []",
            )


def _check_export(path: Path, study: Study) -> None:
    """Reject an export of a model that the study does not train."""
    for key, word, trained in (
        ("backbone", CHOSEN, list(study.backbones)),
        ("seed", BEST, study.seeds),
    ):
        value = getattr(study.export, key)
        if value != word and value not in trained:
            raise CarbenchError(
                path,
                key=f"export.{key}",
                found=f"{value!r}",
                expected=f"{word}, or one that is trained: {', '.join(map(str, trained))}",
                fix=f"write export.{key}: {word}",
            )


def _check_learning_curve(path: Path, study: Study) -> None:
    """Reject seeds that the study lacks: the last point of the curve comes from stage train."""
    curve = study.learning_curve
    unknown = [seed for seed in curve.seeds if seed not in study.seeds]
    if curve.fractions and unknown:
        raise CarbenchError(
            path,
            key="learning_curve.seeds",
            found=", ".join(map(str, unknown)),
            expected=f"some of seeds: {study.seeds}, which stage train trains on all images",
            fix="correct it, or disable the curve with learning_curve.fractions: []",
        )
