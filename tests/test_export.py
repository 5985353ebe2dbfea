"""What is exported is what was trained, for every tool that loads it."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from carbench.core.errors import CarbenchError
from carbench.data.pack.files import open_array, rows_of
from carbench.data.split.table import read_split
from carbench.deploy.bundle.folder import ABOUT, CARD, INT8_ONNX, LABELS, ONNX
from carbench.deploy.bundle.observations import read_observations
from carbench.deploy.export.card import render_card
from carbench.deploy.export.measuring import measure_decisions
from carbench.deploy.export.parity import compare_models, refuse_difference
from carbench.params.study import check
from carbench.statistics.selective_metrics import FittedThresholds
from conftest import Project, copy_project, set_key


@pytest.fixture(scope="module")
def about(smoke_run: Project) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((smoke_run.root / f"results/export/{ABOUT}").read_text())
    return document


def predictions(project: Project, about: dict[str, Any]) -> list[dict[str, str]]:
    place = f"results/evaluate/{about['backbone']}/{about['seed']}/predictions.csv"
    with (project.root / place).open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
def test_the_choice_of_val_is_exported(smoke_run: Project, about: dict[str, Any]) -> None:
    with (smoke_run.root / "results/choose/choice.csv").open(newline="") as file:
        (chosen,) = (row["backbone"] for row in csv.DictReader(file) if row["chosen"] == "1")
    assert about["backbone"] == chosen
    assert about["parity"]["same_top1"] == about["parity"]["images"]
    assert about["parity"]["largest_difference"] < 1e-5
    labels = json.loads((smoke_run.root / f"results/export/{LABELS}").read_text())
    assert labels == about["classes"]


@pytest.mark.slow
def test_the_graph_alone_answers_any_number_of_pixels(
    smoke_run: Project, about: dict[str, Any]
) -> None:
    """With onnxruntime and numpy: no carbench, no mean, no temperature."""
    folder = smoke_run.root / "results"
    session = onnxruntime.InferenceSession(folder / f"export/{ONNX}")
    rows, row_of = predictions(smoke_run, about), rows_of(folder / "pack")
    pixels = open_array(folder / "pack")[[row_of[row["image"]] for row in rows]]
    for count in (1, 3, len(rows)):
        probabilities, embedding = session.run(None, {"images": pixels[:count]})
        assert probabilities.shape == (count, len(about["classes"]))
        assert len(embedding) == count
        np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)
        said = [about["classes"][place] for place in probabilities.argmax(axis=1)]
        assert said == [row["predicted"] for row in rows[:count]]
    classes = session.get_modelmeta().custom_metadata_map["classes"]
    assert json.loads(classes) == about["classes"]


@pytest.mark.slow
def test_timm_loads_the_folder(smoke_run: Project, about: dict[str, Any]) -> None:
    import timm
    import torch

    from carbench.data.loading.augment import resample, whole
    from carbench.data.loading.batches import Normalizer

    folder = smoke_run.root / "results"
    model = timm.create_model(f"local-dir:{folder / 'export'}", pretrained=True).eval()
    config = model.pretrained_cfg
    assert config["label_names"] == about["classes"]
    rows, row_of = predictions(smoke_run, about), rows_of(folder / "pack")
    pixels = open_array(folder / "pack")[[row_of[row["image"]] for row in rows]]
    upright = resample(torch.from_numpy(pixels), whole(len(rows)), config["input_size"][1])
    with torch.inference_mode():
        normalize = Normalizer(config["mean"], config["std"], torch.device("cpu"))
        winners = model(normalize(upright)).argmax(dim=1).tolist()
    assert [about["classes"][winner] for winner in winners] == [row["predicted"] for row in rows]


@pytest.mark.slow
def test_the_8_bit_form_is_measured(smoke_run: Project, about: dict[str, Any]) -> None:
    int8, folder = about["int8"], smoke_run.root / "results"
    assert int8["bytes"] == (folder / f"export/{INT8_ONNX}").stat().st_size
    assert int8["bytes"] < (folder / f"export/{ONNX}").stat().st_size / 2
    session = onnxruntime.InferenceSession(folder / f"export/{INT8_ONNX}")
    rows = [row for row in predictions(smoke_run, about) if row["leaked"] == "0"]
    row_of = rows_of(folder / "pack")
    pixels = open_array(folder / "pack")[[row_of[row["image"]] for row in rows]]
    winners = session.run(None, {"images": pixels})[0].argmax(axis=1)
    said = [about["classes"][winner] for winner in winners]
    right = np.mean([name == row["class"] for name, row in zip(said, rows, strict=True)])
    assert int8["accuracy"]["value"] == pytest.approx(right)
    same = np.mean([name == row["predicted"] for name, row in zip(said, rows, strict=True)])
    assert int8["same_top1"] == pytest.approx(same)


@pytest.mark.slow
def test_it_claims_what_the_report_claims(smoke_run: Project, about: dict[str, Any]) -> None:
    """Of a backbone that was trained once; of several trainings the report says the mean."""
    rows = csv.DictReader((smoke_run.root / "results/summary.csv").open())
    (row,) = (row for row in rows if row["backbone"] == about["backbone"])
    claimed = [float(row[column]) for column in ("accuracy", "accuracy_low", "accuracy_high")]
    assert list(about["accuracy"].values()) == pytest.approx(claimed, rel=1e-5)


@pytest.mark.slow
def test_it_is_as_sure_as_val_found_and_the_test_shows(
    smoke_run: Project, about: dict[str, Any]
) -> None:
    """One seed: what the model card says is what stage aggregate says of the backbone."""
    decision = about["decision"]
    with (smoke_run.root / "results/decisions.csv").open(newline="") as file:
        (row,) = (row for row in csv.DictReader(file) if row["backbone"] == about["backbone"])
    assert decision["threshold"] == pytest.approx(float(row["thresholds"]), rel=1e-5)
    assert decision["set_threshold"] == pytest.approx(float(row["set_thresholds"]), rel=1e-5)
    for name in ("answered", "covered", "set_size"):
        for key, column in (("value", name), ("low", f"{name}_low"), ("high", f"{name}_high")):
            assert decision[name][key] == pytest.approx(float(row[column]), rel=1e-5)
    assert decision["error"] is None  # of so few val images no threshold keeps 5 %
    assert "the model is never sure" in (smoke_run.root / f"results/export/{CARD}").read_text()


def test_decisions_of_the_exported_model_are_measured(tmp_path: Path) -> None:
    shares = [0.95, 0.9, 0.7, 0.6, 0.99]
    lines = [
        f"{n}.jpg,a,{n},{'a' if n else 'b'},{1 - share if n == 0 else share},"
        f"{share if n == 0 else 1 - share},{int(n == 4)}"
        for n, share in enumerate(shares)
    ]
    path = tmp_path / "predictions.csv"
    path.write_text("\n".join(["image,class,group,predicted,p:a,p:b,leaked", *lines]) + "\n")
    found = measure_decisions(path, 1.0, FittedThresholds(0.1, 0.95, 0.8, 0.9, 0.35), 0.95)
    assert found["threshold"] == 0.8
    assert found["answered"]["value"] == 0.5  # of four clean images, two
    assert found["error"]["value"] == 0.5
    assert found["covered"]["value"] == 0.75
    assert found["set_size"]["value"] == 1.25  # 0.6 and 0.4
    off = measure_decisions(path, 1.0, FittedThresholds(None, None, None, None, None), 0.95)
    assert set(off.values()) == {None}


@pytest.mark.slow
def test_new_images_are_held_against_val(smoke_run: Project, about: dict[str, Any]) -> None:
    rows = read_split(smoke_run.root / "results/split/split.csv", about["seed"])
    groups = {row.group for row in rows if row.split == "val"}
    observed = read_observations(smoke_run.root / "results/export/reference.npz")
    assert len(observed) == len(groups)
    # Along principal axes of training images, whose whole variance is one.
    assert 0.1 < observed.embedding.var(axis=0, ddof=1).sum() < 10


@pytest.mark.slow
def test_a_named_training_is_exported(smoke: Project) -> None:
    folder = smoke.root / "results/export"
    before = (folder / ONNX).read_bytes()
    assert str(smoke.root).encode() not in before  # the same bytes wherever it is made
    params = smoke.params
    set_key(params, "export.backbone", "mobilenet")
    set_key(params, "export.int8", False)
    smoke.set_params(params)
    smoke.run("dvc", "repro", "export")
    about = json.loads((folder / ABOUT).read_text())
    assert about["version"].startswith("mobilenet-0-")
    assert not (folder / INT8_ONNX).exists()
    assert "export.int8: false" in (folder / CARD).read_text()
    # What differs too much is not exported, and what was exported before is gone with its params.
    set_key(params, "export.tolerance", 1.0e-12)
    smoke.set_params(params)
    done = smoke.run("snakemake", "--cores", "2", "results/export", check=False)
    assert "export.tolerance: found a probability" in done.stdout + done.stderr
    assert not (folder / ONNX).exists()
    smoke.run("git", "checkout", "--quiet", "HEAD", "--", "params.yaml")
    smoke.run("snakemake", "--cores", "2", "results/export")
    assert (folder / ONNX).read_bytes() == before


@pytest.mark.slow
def test_dvc_gets_the_artifact(dvc_run: Project, tmp_path: Path) -> None:
    """From a clone, as a colleague or a deployment would."""
    made = copy_project(dvc_run, tmp_path / "study")
    made.run("git", "add", "--all")
    made.run("git", "commit", "--quiet", "--message=results")
    made.run("git", "tag", "--annotate", "model@v1.0.0", "--message=deployed")
    target = tmp_path / "deployed"
    made.run("dvc", "artifacts", "get", str(made.root), "model", "-o", str(target))
    folder = made.root / "results/export"
    for name in (ONNX, ABOUT, LABELS, CARD):
        assert (target / name).read_bytes() == (folder / name).read_bytes()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"export.backbone": "vgg"}, "export.backbone: found 'vgg'"),
        ({"export.seed": 7}, "export.seed: found 7"),
        ({"export.seed": "worst"}, "export.seed"),
        ({"export.tolerance": 0.0}, "export.tolerance"),
    ],
)
def test_what_is_not_trained_is_refused(study: Any, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(CarbenchError, match=words):
        check(study(changes))


SHARES = arrays(np.float64, (6, 3), elements=st.floats(0.01, 1))


@given(SHARES, st.integers(0, 5), st.floats(1e-3, 0.3))
def test_parity_sees_every_change(shares: Any, row: int, change: float) -> None:
    """Whichever probability moves, by however much more than is allowed."""
    trained = shares / shares.sum(axis=1, keepdims=True)
    evaluated = trained.argmax(axis=1).tolist()
    same = compare_models(trained, trained, evaluated, 1e-4)
    refuse_difference(same, Path("model"))
    other = trained.copy()
    other[row, 0] += change
    with pytest.raises(CarbenchError):
        refuse_difference(compare_models(other, trained, evaluated, 1e-4), Path("model"))
    evaluated[row] = (evaluated[row] + 1) % 3
    with pytest.raises(CarbenchError, match="another class for 1 of 6"):
        refuse_difference(compare_models(trained, trained, evaluated, 1e-4), Path("model"))


@pytest.mark.slow
def test_the_card_has_its_numbers_and_strange_names_are_letters(
    smoke_run: Project, about: dict[str, Any]
) -> None:
    results = smoke_run.root / "results"
    card = (results / f"export/{CARD}").read_text()
    value, low, high = (f"{100 * about['accuracy'][key]:.1f} %" for key in ("value", "low", "high"))
    assert f"{value} ({low} to {high})" in card
    assert about["version"] in card
    assert about["sha256"][ONNX] in card
    strange = "a|b <script> *c*"
    renamed = about | {"classes": [strange, *about["classes"][1:]]}
    metrics = json.loads(
        (results / f"evaluate/{about['backbone']}/{about['seed']}/metrics.json").read_text()
    )
    metrics["clean"]["recall"][strange] = None
    with (results / "summary.csv").open(newline="") as file:
        summary = next(csv.DictReader(file))
    text = render_card(renamed, metrics, summary, [])
    assert strange not in text
    assert r"| a\|b \<script\> \*c\* | none | 0 | 0 | 0 |" in text


def test_a_folder_without_a_model_is_said(tmp_path: Path) -> None:
    from carbench.deploy.bundle.loading import load_bundle

    with pytest.raises(CarbenchError, match=r"no model\.json"):
        load_bundle(tmp_path)
    shutil.rmtree(tmp_path)
    with pytest.raises(CarbenchError, match=r"no model\.json"):
        load_bundle(tmp_path)
