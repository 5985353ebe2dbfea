"""Screening: probes, selection of candidates, and the shortlist."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from carbench.core.errors import CarbenchError
from carbench.core.tables import read_table, write_table
from carbench.params.presets import apply_preset
from carbench.params.screen import FeatureParams, LimitParams, ProbeParams
from carbench.params.shortlist import ShortlistParams
from carbench.params.study import check
from carbench.screening.candidates import find_candidates, read_weights_table
from carbench.screening.probes import PENALTIES, neighbour_probe, ridge_probe
from carbench.screening.write_backbones import write_backbones
from carbench.statistics.shortlist import rank_candidates
from conftest import ROOT, SMOKE, Project, active_environment, copy_project

SHA = "ab" * 32


def shortlist_params(**changes: object) -> ShortlistParams:
    params = ShortlistParams.model_validate(SMOKE["shortlist"])
    return params.model_copy(update=changes)


# The probes.


def clusters(count: int, width: int, spread: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Features of three classes around three centres."""
    rng = torch.Generator().manual_seed(0)
    labels = torch.arange(count) % 3
    centres = torch.randn(3, width, generator=rng)
    return centres[labels] + spread * torch.randn(count, width, generator=rng), labels


@pytest.mark.parametrize("width", [12, 300])  # fewer and more features than images
def test_the_ridge_probe_equals_ridge_regression(width: int) -> None:
    """Its answers are those of scikit-learn's ridge regression with the penalty that it chose."""
    from sklearn.linear_model import Ridge
    from sklearn.preprocessing import StandardScaler

    features, labels = clusters(120, width, 2.5)
    folds = torch.arange(120) // 3 % 4
    probe = ridge_probe(features.double(), labels, folds)
    assert probe.penalty in PENALTIES
    for fold in range(4):
        known, asked = folds != fold, folds == fold
        scaler = StandardScaler().fit(features[known])
        # torch's standard deviation divides by n - 1.
        scale = np.sqrt(known.sum().item() / (known.sum().item() - 1))
        model = Ridge(alpha=probe.penalty * known.sum().item())
        model.fit(scaler.transform(features[known]) / scale, np.eye(3)[labels[known]])
        expected = model.predict(scaler.transform(features[asked]) / scale).argmax(axis=1)
        assert probe.predicted[asked].tolist() == expected.tolist()


def test_copies_in_the_same_fold_do_not_help() -> None:
    """Without any relation between features and classes, copies of every image would be answered
    rightly by a probe that sees them; folds of whole groups keep it at chance."""
    rng = torch.Generator().manual_seed(0)
    once, classes = torch.randn(150, 40, generator=rng), torch.arange(150) % 3
    features, labels = once.repeat_interleave(2, dim=0), classes.repeat_interleave(2)
    groups = torch.arange(300) // 2
    within, across = groups % 5, torch.arange(300) % 5
    for probe in (
        lambda folds: ridge_probe(features, labels, folds).predicted,
        lambda folds: neighbour_probe(features, labels, folds, 3),
    ):
        honest, leaked = ((probe(folds) == labels).float().mean() for folds in (within, across))
        assert honest < 0.4
        assert leaked > honest + 0.15


def test_separable_classes_are_classified() -> None:
    features, labels = clusters(90, 20, 0.3)
    folds = torch.arange(90) // 3 % 5
    assert (ridge_probe(features, labels, folds).predicted == labels).all()
    assert (neighbour_probe(features, labels, folds, 5) == labels).all()


# Which models are candidates.


def weights_table(folder: Path, *rows: dict[str, str]) -> Path:
    path = folder / "weights.csv"
    write_table(path, ["model", "file", "hub", "revision", "sha256"], rows)
    return path


def test_patterns_match_names_with_and_without_tags(tmp_path: Path) -> None:
    hub = {"file": "", "hub": "timm/x", "revision": "0" * 40, "sha256": SHA}
    table = read_weights_table(
        weights_table(
            tmp_path, {"model": "resnet18.a1_in1k"} | hub, {"model": "resnet18.a2_in1k"} | hub
        )
    )
    named = [each.model for each in find_candidates(["resnet18"], table, True)]
    assert named == ["resnet18.a1_in1k", "resnet18.a2_in1k"]
    (one,) = find_candidates(["*.a2*"], table, False)
    assert (one.architecture, one.start) == ("resnet18", "hub")
    both = find_candidates(["resnet1?t", "resnet18*"], table, True)
    assert [each.model for each in both if each.start == "random"][:2] == ["resnet10t", "resnet14t"]
    assert len({each.model for each in both}) == len(both)


@pytest.mark.parametrize(
    ("patterns", "random_starts", "words"),
    [
        (["resnet18"], False, "has no weights"),
        (["resnut*"], True, "matches no timm model"),
    ],
)
def test_patterns_without_a_match_are_rejected(
    patterns: list[str], random_starts: bool, words: str
) -> None:
    with pytest.raises(CarbenchError, match=words):
        find_candidates(patterns, {}, random_starts)


def test_invalid_pins_are_rejected(tmp_path: Path) -> None:
    row = {"model": "resnet18", "file": "", "hub": "timm/x", "revision": "main", "sha256": SHA}
    with pytest.raises(CarbenchError, match=r"line 2, revision: found 'main'"):
        read_weights_table(weights_table(tmp_path, row))
    with pytest.raises(CarbenchError, match=r"found nothing.*screen.weights"):
        read_weights_table(tmp_path / "other.csv")


def test_the_committed_weights_are_pinned() -> None:
    assert len(read_weights_table(ROOT / "presets/weights.csv")) == 3


# The shortlist.


@settings(deadline=None, max_examples=25)
@given(
    st.lists(st.tuples(st.floats(0, 1), st.sampled_from("abc")), min_size=1, max_size=8),
    st.integers(1, 5),
    st.integers(0, 2),
    st.sampled_from(["accurate", "cheap"]),
)
def test_the_shortlist_follows_the_rule(
    candidates: list[tuple[float, str]], size: int, per_family: int, prefer: str
) -> None:
    rng = np.random.default_rng(0)
    right = {f"m{n}": rng.random(60) < share for n, (share, _) in enumerate(candidates)}
    families = {f"m{n}": family for n, (_, family) in enumerate(candidates)}
    macs = {name: 1 + n for n, name in enumerate(right)}
    params = shortlist_params(size=size, per_family=per_family, prefer=prefer)
    ranked = rank_candidates(right, np.arange(60) // 2, families, macs, params)
    assert [each.accuracy.value for each in ranked] == sorted(
        (own.mean() for own in right.values()), reverse=True
    )
    listed = [each for each in ranked if each.shortlisted]
    assert ranked[0].shortlisted
    assert ranked[0].tied
    assert all(each.eligible for each in listed)
    assert len(listed) <= size
    counted = Counter(families[each.model] for each in listed)
    assert not per_family or max(counted.values()) <= per_family
    eligible = [each.model for each in ranked if each.eligible]
    assert len(listed) == size or per_family or len(listed) == len(eligible)
    # The order in which candidates are named decides nothing.
    turned = rank_candidates(
        dict(reversed(right.items())), np.arange(60) // 2, families, macs, params
    )
    assert [each.model for each in turned if each.shortlisted] == [each.model for each in listed]


def test_significantly_worse_candidates_are_not_shortlisted() -> None:
    right = {"good": np.ones(300, bool), "near": np.arange(300) % 50 > 0}
    right["bad"] = np.arange(300) % 3 > 0
    families = dict.fromkeys(right, "a")
    ranked = rank_candidates(
        right, np.arange(300), families, dict.fromkeys(right, 1), shortlist_params()
    )
    assert [each.model for each in ranked if each.shortlisted] == ["good", "near"]


# ... and what becomes of it.


def shortlist_table(folder: Path, *models: str) -> Path:
    path = folder / "shortlist.csv"
    rows = [{"model": name, "start": "file", "shortlisted": 1} for name in models]
    rows.append({"model": "resnet50", "start": "random", "shortlisted": 0})
    write_table(path, list(rows[0]), rows)
    return path


@pytest.mark.parametrize("preset", ["sample", "smoke", "archive", "kaggle-cars"])
def test_writing_the_shortlist_changes_only_the_backbones(preset: str, tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    before = apply_preset(ROOT / f"presets/{preset}.yaml")
    path.write_text(before)
    own = yaml.safe_load(before)["backbones"]
    first = next(iter(own))
    models = ("tf_efficientnet_lite1", own[first]["model"])
    table = shortlist_table(tmp_path, *models)
    pins = ROOT / "presets/weights.csv"
    if own[first]["weights"] != "random":
        pin = {"file": "", "hub": "timm/x", "revision": "0" * 40, "sha256": SHA}
        known = [row for row in read_table(pins) if row["model"] != models[1]]
        pins = weights_table(tmp_path, *known, {"model": models[1]} | pin)
    write_backbones(path, table, pins, keep=False)
    text = path.read_text()
    study = check(path)
    assert [each.model for each in study.backbones.values()] == list(models)
    assert study.backbones[first].train == own[first]["train"]
    new = next((n for n in own if own[n]["model"] == models[0]), models[0])
    assert list(study.backbones) == [new, first]
    head, tail = before.split("backbones:")[0], before[before.index("\nseeds:") :]
    assert text.startswith(head)
    assert text.endswith(tail)
    write_backbones(path, table, pins, keep=False)
    assert path.read_text() == text
    write_backbones(path, table, pins, keep=True)
    assert list(check(path).backbones) == [new, first]
    path.write_text(before)
    write_backbones(path, table, pins, keep=True)
    assert set(check(path).backbones) == {new, *own}


def test_an_empty_shortlist_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(apply_preset(ROOT / "presets/smoke.yaml"))
    with pytest.raises(CarbenchError, match="found no shortlisted candidate"):
        write_backbones(path, shortlist_table(tmp_path), ROOT / "presets/weights.csv", False)
    assert path.read_text() == apply_preset(ROOT / "presets/smoke.yaml")


def test_screening_with_k_folds_is_rejected(study: Callable[..., Path]) -> None:
    with pytest.raises(CarbenchError, match=r"screen.candidates: found candidates, with"):
        check(study({"split.method": "kfold", "split.folds": 3, "seeds": [0, 1, 2]}))


# The stage.


def screening(folder: Path, made: Path, limits: dict[str, object]) -> object:
    """Three tiny classes, and a cache."""
    from carbench.screening.features import FeatureCache
    from carbench.screening.screener import Screener
    from carbench.screening.training_images import load_screening_images, select_training_rows

    screen = SMOKE["screen"]
    rows = select_training_rows(made / "split.csv", 0, 0)
    probe = ProbeParams.model_validate(screen["probe"])
    params = FeatureParams.model_validate(screen["features"])
    device = torch.device("cpu")
    images = load_screening_images(made, rows, probe, device)
    cache = FeatureCache(folder / "features", 1e9)
    all_limits = LimitParams.model_validate(screen["limits"] | limits)
    return Screener(images, all_limits, params, probe, device, cache, folder / "scratch")


@pytest.mark.slow
def test_a_failing_candidate_does_not_affect_the_others(tmp_path: Path, made: Path) -> None:
    candidates = find_candidates(["test_resnet", "test_vit", "resnet50"], {}, True)
    found = {
        each.model: each for each in screening(tmp_path, made, {"parameters": 1.0}).run(candidates)
    }
    assert found["test_resnet"].status == "screened"
    assert len(found["test_resnet"].predicted) == 48
    assert "million parameters, over 1" in found["resnet50"].status
    assert not found["resnet50"].predicted


@pytest.mark.slow
def test_pretrained_weights_are_used(tmp_path: Path, made: Path) -> None:
    """Those of a file, pinned; others than the pinned stop the screening."""
    import timm
    from safetensors.torch import save_file

    torch.manual_seed(1)
    state = timm.create_model("test_resnet").state_dict()
    save_file(state, tmp_path / "start.safetensors")
    sha256 = hashlib.sha256((tmp_path / "start.safetensors").read_bytes()).hexdigest()
    row = {"model": "test_resnet", "hub": "", "revision": ""}
    row |= {"file": str(tmp_path / "start.safetensors"), "sha256": sha256}
    candidates = find_candidates(
        ["test_resnet"], read_weights_table(weights_table(tmp_path, row)), False
    )
    (found,) = screening(tmp_path / "trained", made, {}).run(candidates)
    assert (found.start, found.status) == ("file", "screened")
    random = find_candidates(["test_resnet"], {}, True)
    (other,) = screening(tmp_path / "random", made, {}).run(random)
    assert other.predicted != found.predicted
    row["sha256"] = SHA
    candidates = find_candidates(
        ["test_resnet"], read_weights_table(weights_table(tmp_path, row)), False
    )
    with pytest.raises(CarbenchError, match="sha256"):
        list(screening(tmp_path / "other", made, {}).run(candidates))


@pytest.mark.slow
def test_features_are_cached_and_damage_is_detected(
    tmp_path: Path, made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from carbench.screening import screener as module

    computed = []
    compute = module.compute_features

    def counted(*arguments: object) -> torch.Tensor:
        computed.append(arguments)
        return compute(*arguments)

    monkeypatch.setattr(module, "compute_features", counted)
    candidates = find_candidates(["test_resnet"], {}, True)
    (first,) = screening(tmp_path, made, {}).run(candidates)
    (again,) = screening(tmp_path, made, {}).run(candidates)  # done: not even probed again
    assert again == first
    assert len(computed) == 1
    (tmp_path / "scratch/test_resnet.json").unlink()
    (cached,) = screening(tmp_path, made, {}).run(candidates)
    assert cached.predicted == first.predicted
    assert len(computed) == 1
    (tmp_path / "scratch/test_resnet.json").unlink()
    (kept,) = (tmp_path / "features").iterdir()
    kept.write_bytes(kept.read_bytes()[:-1] + b"x")
    (anew,) = screening(tmp_path, made, {}).run(candidates)
    assert anew.predicted == first.predicted
    assert len(computed) == 2


@pytest.mark.slow
def test_only_training_images_are_read(smoke_run: Project) -> None:
    split = {row["image"]: row for row in read_table(smoke_run.root / "results/split/split.csv")}
    answers = read_table(smoke_run.root / "results/screen/tiny/predictions.csv")
    assert {split[row["image"]]["split"] for row in answers} == {"train"}
    candidates = read_table(smoke_run.root / "results/screen/tiny/candidates.csv")
    for row in candidates:
        right = np.mean([answer[row["model"]] == answer["class"] for answer in answers])
        assert float(row["accuracy"]) == pytest.approx(right, abs=1e-6)


@pytest.mark.slow
def test_a_killed_screening_resumes(smoke_run: Project, tmp_path: Path) -> None:
    """What was done before the kill is not done again, and the result is that of an undisturbed
    run; then its shortlist is written and both engines see nothing else to do."""
    project = copy_project(smoke_run, tmp_path / "study")
    params = project.params
    params["screen"]["candidates"] = {"tiny": ["test_resnet", "test_efficientnet", "test_vit*"]}
    project.set_params(params)
    command, target = ("snakemake", "--cores", "2"), "results/shortlist/shortlist.csv"
    process = subprocess.Popen(
        [*command, target],
        cwd=project.root,
        env=active_environment(),
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    scratch = project.root / ".carbench/scratch/screen@tiny"
    deadline = time.monotonic() + 240
    while not list(scratch.glob("*/test_*.json")) and time.monotonic() < deadline:
        assert process.poll() is None, process.stdout.read()
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    done = {path.name: path.stat().st_mtime_ns for path in scratch.glob("*/test_*.json")}
    assert done
    # The temporary folder is removed where a killed engine has left a lock on it.
    project.run("snakemake", "--unlock")
    project.run(*command, target)
    table = read_table(project.root / "results/screen/tiny/candidates.csv")
    assert len(table) >= 3
    log = (project.root / "results/logs/screen/tiny.log").read_text()
    assert f"{len(table)}/{len(table)}" in log
    seconds = {
        row["model"]: float(row["seconds"])
        for row in read_table(project.root / "results/screen/tiny/cost.csv")
    }
    assert set(seconds) == {row["model"] for row in table}
    metrics = json.loads((project.root / "results/shortlist/metrics.json").read_text())
    written = project.run("carbench", "shortlist").stdout
    assert metrics["shortlisted"] == len(written.splitlines())
    backbones = {each["model"] for each in project.params["backbones"].values()}
    assert backbones == set(metrics["shortlist"].split())
    project.run(*command, target)
    assert project.run("carbench", "why", "shortlist").stdout.startswith("shortlist is up to date")


@pytest.mark.slow
def test_an_outdated_shortlist_is_not_written(smoke: Project) -> None:
    params = smoke.params
    params["shortlist"]["size"] = 1
    smoke.set_params(params)
    before = (smoke.root / "params.yaml").read_text()
    done = smoke.run("carbench", "shortlist", check=False)
    assert done.returncode == 1
    assert "shortlist" in done.stderr
    assert (smoke.root / "params.yaml").read_text() == before
