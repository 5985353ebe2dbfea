"""params.yaml: valid files pass, and every mistake is reported with its key and a fix."""

from __future__ import annotations

import copy
import datetime
import shutil
import subprocess
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest

from carbench.core.errors import CarbenchError
from carbench.params.study import check
from carbench.params.train import recipe_of
from conftest import ROOT, SMOKE, run_script, set_key

# Each line has ten times the values of the one before.
NAMES = "abcdefghi"
MULTIPLIED = "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 10)}]\n" for before, name in pairwise(NAMES)
)


def test_the_default_is_the_sample() -> None:
    default, sample = (
        subprocess.run(["git", "show", f"HEAD:{path}"], cwd=ROOT, capture_output=True, check=True)
        for path in ("params.yaml", "presets/sample.yaml")
    )  # as committed: a developer may be trying something in the checkout
    assert default.stdout == sample.stdout


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("train.epochs", 10**21, ["train.epochs: found 1000", "at most 2,147,483,647"]),
        ("seeds", [2**43], ["seeds: found 8796093022208", "at most 2,147,483,647"]),
        ("train.weight_decay", float("inf"), ["train.weight_decay: found inf", "finite number"]),
        ("report.title", "a\nb", ["report.title", "text on one line"]),
        ("report.title", datetime.date(2024, 1, 1), ["report.title", "expected a valid string"]),
        ("train.epoch", 3, ["train.epoch: unknown key", "did you mean 'epochs'"]),
        ("train.augment.flips", True, ["train.augment.flips", "did you mean 'flip'"]),
        ("train.epochs", 0, ["train.epochs: found 0", "greater than or equal to 1"]),
        ("train.epochs", 2.5, ["train.epochs: found 2.5", "integer"]),
        ("train.lr", "1.0e-3 ", ["train.lr: found '1.0e-3 '", "without quotes"]),
        ("train.augment.flip", "yes", ["train.augment.flip", "write true or false"]),
        ("train.warmup_epochs", 99.0, ["warmup_epochs (99) must be less than epochs"]),
        ("train.device", "gpu", ["train.device: found 'gpu'", "'cpu' or 'cuda'"]),
        ("train.freeze_epochs", 99, ["freeze_epochs (99) must be less than epochs"]),
        ("train.freeze_epochs", 1, ["resnet.train.freeze_epochs: found 1", "random weights"]),
        ("train.backbone_lr_scale", 0.1, ["backbone_lr_scale: found 0.1", "random weights"]),
        ("tune.learning_rates", [0.1, 0.1], ["tune.learning_rates", "two or more different"]),
        ("tune.learning_rates", [0.1], ["tune.learning_rates", "two or more different"]),
        ("backbones.resnet.train", {"lr": 0.1}, ["resnet.train.lr: found 0.1 in addition to tune"]),
        ("split.test", 0.9, ["split", "must be below 1"]),
        ("split.repeats", 2, ["seeds: found [0]", "2 splits [1, 0] times", "write seeds: [0, 1]"]),
        ("learning_curve.fractions", [1.0], ["learning_curve.fractions", "less than 1"]),
        ("learning_curve.fractions", [0.5, 0.5], ["each of fractions once"]),
        ("learning_curve.seeds", [], ["fractions need at least one seed"]),
        ("learning_curve.seeds", [0, 7], ["learning_curve.seeds: found 7", "some of seeds: [0]"]),
        (
            "split.method",
            "kfold",
            ["seeds: found [0]", "[1, 0, 0, 0, 0] times", "write seeds: [0, 1, 2, 3, 4]"],
        ),
        ("audit.reviewed", "a{b}.csv", ["audit.reviewed", "braces in the path a{b}.csv"]),
        ("data.path", "cars.zip", ["data", "write presets/none"]),
        ("data", {"source": "archive"}, ["data.path: missing", "data.sample: missing"]),
        ("data.source", "archive", ["reads a local path: name it"]),
        ("data.exclude", "Audi", ["data.exclude", "list"]),
        ("choose.margin", 2.0, ["choose.margin: found 2.0", "less than or equal to 1"]),
        ("aggregate.confidence", 0.99999, ["aggregate.confidence", "less than or equal to 0.9999"]),
        ("seeds", [1, 1], ["seeds: found [1, 1]", "each seed once"]),
        ("seeds", [], ["seeds", "at least 1 item"]),
        ("backbones", {}, ["backbones: found none"]),
        ("backbones.resnet.train", {"lrr": 1.0}, ["backbones.resnet.train.lrr", "'lr'"]),
        ("backbones.resnet.train", {"image_size": 64}, ["one image size for all"]),
        ("backbones.resnet.train", {"profile": True}, ["would rerun the training"]),
        ("backbones.resnet.weights", "imagenet", ["backbones.resnet.weights"]),
        ("backbones.resnet.weights", {"hub": "a/b"}, ["resnet.weights.revision: missing"]),
        ("backbones.resnet.weights", {"file": "a.pth"}, ["resnet.weights.sha256: missing"]),
        ("trian", {}, ["trian: unknown key", "did you mean 'train'"]),
    ],
)
def test_mistakes_are_explained(
    study: Callable[..., Path], key: str, value: object, words: list[str]
) -> None:
    path = study({key: value})
    with pytest.raises(CarbenchError) as caught:
        check(path)
    for word in [str(path), *words, "Fix:"]:
        assert word in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "key"),
    [("lr: 0.006", "lr: 1e-3", "train.lr"), ("title: ", "title: 12:30:45 #", "report.title")],
)
def test_spellings_that_the_engines_read_differently_are_rejected(
    tmp_path: Path, old: str, new: str, key: str
) -> None:
    text = (ROOT / "presets/sample.yaml").read_text()
    assert old in text
    path = tmp_path / "params.yaml"
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(CarbenchError, match=f"{key}: found a spelling that DVC reads as"):
        check(path)


def test_a_backbone_name_that_cannot_be_a_folder_is_rejected(study: Callable[..., Path]) -> None:
    entry = {"model": "resnet18", "weights": "random", "train": {}}
    with pytest.raises(CarbenchError, match="letters, digits"):
        check(study({"backbones": {"resnet18.a1": entry}}))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("data: [", "unreadable YAML"),
        ("- a\n- b\n", "a list"),
        ("seeds: [0]\nseeds: [1]\n", "duplicate key"),
        ("", "an empty file"),
        ("a: b\0", "control characters"),
        ("seeds: [0]".encode("utf-16"), "not UTF-8.* Fix: save it as UTF-8"),
        ("a: " + "[" * 3000 + "]" * 3000, "more than 20 levels"),
        ("".join(f"{' ' * depth}a:\n" for depth in range(2000)), "more than 20 levels"),
        ("a: &a [*a]", "more than 20 levels"),
        ("a: &a [x,x,x]\n" + MULTIPLIED, "more than 100,000 values"),
    ],
)
def test_unreadable_files_are_explained(tmp_path: Path, text: str | bytes, words: str) -> None:
    path = tmp_path / "params.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(CarbenchError, match=words):
        check(path)


def test_a_stage_rejects_a_mistake_in_the_section_of_another_stage(
    study: Callable[..., Path], tmp_path: Path
) -> None:
    """A mistake far down the DAG is found before any work starts, without a traceback."""
    path = study({"report.title": ""})
    done = run_script("fetch", "--params", path, "--output", tmp_path / "data")
    assert done.returncode == 1
    assert "report.title" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "data").exists()


def test_a_missing_file_is_explained(tmp_path: Path) -> None:
    done = run_script("fetch", "--params", tmp_path / "no.yaml", "--output", tmp_path / "data")
    assert done.returncode == 1
    assert "no such file" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_copied_preset_is_rejected_with_a_fix(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    shutil.copy(ROOT / "presets/archive.yaml", path)
    with pytest.raises(CarbenchError, match=r"without audit, split, .* `carbench init NAME`"):
        check(path)


def test_set_key_reaches_nested_values() -> None:
    params = {"a": {"b": 1}}
    set_key(params, "a.b", 2)
    assert params == {"a": {"b": 2}}


def test_finetune_applies_only_to_pretrained_weights(study: Callable[..., Path]) -> None:
    params = copy.deepcopy(SMOKE)
    section = params["train"] | {"finetune": {"lr": 0.5, "augment": {"flip": False}}}
    random, trained = (recipe_of(section, {"epochs": 9}, each) for each in (False, True))
    assert random["lr"] == params["train"]["lr"]
    assert (trained["lr"], trained["epochs"]) == (0.5, 9)
    assert trained["augment"] == params["train"]["augment"] | {"flip": False}
    assert recipe_of(section, {"lr": 0.1}, True)["lr"] == 0.1
    for key, value, words in (
        ("lr", -1.0, "train.finetune.lr"),
        ("image_size", 64, "train.finetune.image_size"),
        ("rate", 1.0, "train.finetune.rate: unknown key"),
        ("finetune", {}, "train.finetune.finetune"),
    ):
        with pytest.raises(CarbenchError, match=words):
            check(study({"train.finetune": {key: value}}))
    # A random start has nothing to keep; beside it, trained weights may be held back.
    check(study({"train.finetune": {"epochs": 4, "freeze_epochs": 1}}))
