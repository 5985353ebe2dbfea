"""Stage export: ONNX, timm, 8-bit model, metadata, model card and DVC artifact."""

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
from numpy.typing import NDArray

from carbench.core.columns import texts
from carbench.core.errors import CarbenchError
from carbench.data.pack.reading import find_rows, open_array
from carbench.data.split.table import read_split
from carbench.deploy.bundle.exported_model import INT8_ONNX, LABELS, MODEL_CARD, MODEL_JSON, ONNX
from carbench.deploy.bundle.observations import read_observations
from carbench.deploy.export.evaluation import decision_metrics
from carbench.deploy.export.model_card import render_model_card
from carbench.deploy.export.parity import measure_parity, require_parity
from carbench.engines.engine_jobs import dvc_jobs
from carbench.params.study import check
from carbench.statistics.selective_metrics import FittedThresholds
from conftest import Project, copy_project, set_key
from image_rows import split_rows


@pytest.fixture(scope="module")
def metadata(smoke_run: Project) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(
        (smoke_run.root / f"results/export/{MODEL_JSON}").read_text()
    )
    return document


def pixels_of(rows: list[dict[str, str]], pack: Path) -> NDArray[np.uint8]:
    """Return the packed pixels of images."""
    return open_array(pack)[find_rows(pack, texts([row["image"] for row in rows]))]


def predictions(project: Project, metadata: dict[str, Any]) -> list[dict[str, str]]:
    path = f"results/evaluate/{metadata['backbone']}/{metadata['seed']}/predictions.csv"
    with (project.root / path).open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
def test_the_backbone_chosen_on_validation_images_is_exported(
    smoke_run: Project, metadata: dict[str, Any]
) -> None:
    with (smoke_run.root / "results/choose/choice.csv").open(newline="") as file:
        (chosen,) = (row["backbone"] for row in csv.DictReader(file) if row["chosen"] == "1")
    assert metadata["backbone"] == chosen
    assert metadata["parity"]["same_top1"] == metadata["parity"]["images"]
    assert metadata["parity"]["largest_difference"] < 1e-5
    labels = json.loads((smoke_run.root / f"results/export/{LABELS}").read_text())
    assert labels == metadata["classes"]


@pytest.mark.slow
def test_the_onnx_model_needs_no_other_preprocessing(
    smoke_run: Project, metadata: dict[str, Any]
) -> None:
    """Uses onnxruntime and numpy only, without normalisation and temperature scaling."""
    folder = smoke_run.root / "results"
    session = onnxruntime.InferenceSession(folder / f"export/{ONNX}")
    rows = predictions(smoke_run, metadata)
    pixels = pixels_of(rows, folder / "pack")
    for count in (1, 3, len(rows)):
        probabilities, embedding = session.run(None, {"images": pixels[:count]})
        assert probabilities.shape == (count, len(metadata["classes"]))
        assert len(embedding) == count
        np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)
        predicted = [metadata["classes"][index] for index in probabilities.argmax(axis=1)]
        assert predicted == [row["predicted"] for row in rows[:count]]
    classes = session.get_modelmeta().custom_metadata_map["classes"]
    assert json.loads(classes) == metadata["classes"]


@pytest.mark.slow
def test_timm_loads_the_exported_folder(smoke_run: Project, metadata: dict[str, Any]) -> None:
    import timm
    import torch

    from carbench.data.loading.augment import full_crops, resample
    from carbench.data.loading.batches import Normalizer

    folder = smoke_run.root / "results"
    model = timm.create_model(f"local-dir:{folder / 'export'}", pretrained=True).eval()
    config = model.pretrained_cfg
    assert config["label_names"] == metadata["classes"]
    rows = predictions(smoke_run, metadata)
    pixels = pixels_of(rows, folder / "pack")
    upright = resample(torch.from_numpy(pixels), full_crops(len(rows)), config["input_size"][1])
    with torch.inference_mode():
        normalize = Normalizer(config["mean"], config["std"], torch.device("cpu"))
        winners = model(normalize(upright)).argmax(dim=1).tolist()
    assert [metadata["classes"][winner] for winner in winners] == [row["predicted"] for row in rows]


@pytest.mark.slow
def test_the_8_bit_model_is_evaluated(smoke_run: Project, metadata: dict[str, Any]) -> None:
    int8, folder = metadata["int8"], smoke_run.root / "results"
    assert int8["bytes"] == (folder / f"export/{INT8_ONNX}").stat().st_size
    assert int8["bytes"] < (folder / f"export/{ONNX}").stat().st_size / 2
    session = onnxruntime.InferenceSession(folder / f"export/{INT8_ONNX}")
    rows = [row for row in predictions(smoke_run, metadata) if row["leaked"] == "0"]
    pixels = pixels_of(rows, folder / "pack")
    winners = session.run(None, {"images": pixels})[0].argmax(axis=1)
    predicted = [metadata["classes"][winner] for winner in winners]
    right = np.mean([name == row["class"] for name, row in zip(predicted, rows, strict=True)])
    assert int8["accuracy"]["value"] == pytest.approx(right)
    same = np.mean([name == row["predicted"] for name, row in zip(predicted, rows, strict=True)])
    assert int8["same_top1"] == pytest.approx(same)


@pytest.mark.slow
def test_the_exported_accuracy_equals_that_of_the_report(
    smoke_run: Project, metadata: dict[str, Any]
) -> None:
    """For a backbone with a single training run; otherwise the report states the mean."""
    rows = csv.DictReader((smoke_run.root / "results/summary.csv").open())
    (row,) = (row for row in rows if row["backbone"] == metadata["backbone"])
    claimed = [float(row[column]) for column in ("accuracy", "accuracy_low", "accuracy_high")]
    assert list(metadata["accuracy"].values()) == pytest.approx(claimed, rel=1e-5)


@pytest.mark.slow
def test_exported_decision_metrics_equal_those_of_stage_aggregate(
    smoke_run: Project, metadata: dict[str, Any]
) -> None:
    """With a single seed, the model card has the numbers of stage aggregate."""
    decision = metadata["decision"]
    with (smoke_run.root / "results/decisions.csv").open(newline="") as file:
        (row,) = (row for row in csv.DictReader(file) if row["backbone"] == metadata["backbone"])
    assert decision["threshold"] == pytest.approx(float(row["thresholds"]), rel=1e-5)
    assert decision["set_threshold"] == pytest.approx(float(row["set_thresholds"]), rel=1e-5)
    for name in ("answered", "covered", "set_size"):
        for key, column in (("value", name), ("low", f"{name}_low"), ("high", f"{name}_high")):
            assert decision[name][key] == pytest.approx(float(row[column]), rel=1e-5)
    assert decision["error"] is None  # with so few validation images no threshold guarantees 5 %
    assert (
        "the model is never sure" in (smoke_run.root / f"results/export/{MODEL_CARD}").read_text()
    )


def test_decision_metrics_are_computed_on_clean_images(tmp_path: Path) -> None:
    shares = [0.95, 0.9, 0.7, 0.6, 0.99]
    lines = [
        f"{n}.jpg,a,{n},{'a' if n else 'b'},{1 - share if n == 0 else share},"
        f"{share if n == 0 else 1 - share},{int(n == 4)}"
        for n, share in enumerate(shares)
    ]
    path = tmp_path / "predictions.csv"
    path.write_text("\n".join(["image,class,group,predicted,p:a,p:b,leaked", *lines]) + "\n")
    found = decision_metrics(path, 1.0, FittedThresholds(0.1, 0.95, 0.8, 0.9, 0.35), 0.95)
    assert found["threshold"] == 0.8
    assert found["answered"]["value"] == 0.5  # of four clean images, two
    assert found["error"]["value"] == 0.5
    assert found["covered"]["value"] == 0.75
    assert found["set_size"]["value"] == 1.25  # 0.6 and 0.4
    off = decision_metrics(path, 1.0, FittedThresholds(None, None, None, None, None), 0.95)
    assert set(off.values()) == {None}


@pytest.mark.slow
def test_the_reference_has_one_validation_image_per_group(
    smoke_run: Project, metadata: dict[str, Any]
) -> None:
    rows = read_split(smoke_run.root / "results/split/split.csv", metadata["seed"])
    groups = {row.group for row in rows if row.split == "val"}
    observed = read_observations(smoke_run.root / "results/export/reference.npz")
    assert len(observed) == len(groups)
    # Principal axes of the training images, scaled to a total variance of one.
    assert 0.1 < observed.embedding.var(axis=0, ddof=1).sum() < 10


@pytest.mark.slow
def test_a_specified_training_run_is_exported(smoke: Project, tmp_path: Path) -> None:
    # The bytes do not depend on the path.
    assert str(smoke.root).encode() not in (smoke.root / "results/export" / ONNX).read_bytes()
    params, folder = smoke.params, tmp_path / "export"
    set_key(params, "export.backbone", "mobilenet")
    set_key(params, "export.int8", False)
    smoke.set_params(params)
    smoke.run(*export_command(smoke, folder))
    metadata = json.loads((folder / MODEL_JSON).read_text())
    assert metadata["version"].startswith("mobilenet-0-")
    assert not (folder / INT8_ONNX).exists()
    assert "export.int8: false" in (folder / MODEL_CARD).read_text()


@pytest.mark.slow
def test_a_model_that_differs_beyond_the_tolerance_is_not_exported(
    smoke: Project, tmp_path: Path
) -> None:
    params = smoke.params
    set_key(params, "export.tolerance", 1.0e-12)
    smoke.set_params(params)
    done = smoke.run(*export_command(smoke, tmp_path / "export"), check=False)
    assert "export.tolerance: found a probability" in done.stdout + done.stderr
    assert not list(tmp_path.rglob("*.onnx"))


def export_command(project: Project, folder: Path) -> list[str]:
    """Return the command of stage export, with another output folder."""
    words = dvc_jobs(project.root)["export"].command.split()
    words[words.index("--output") + 1] = str(folder)
    words[words.index("--log") + 1] = str(folder.parent / "export.log")
    return words


@pytest.mark.slow
def test_the_export_is_available_as_a_dvc_artifact(dvc_run: Project, tmp_path: Path) -> None:
    """As in a clone of a colleague or in a deployment."""
    made = copy_project(dvc_run, tmp_path / "study")
    made.run("git", "add", "--all")
    made.run("git", "commit", "--quiet", "--message=results")
    made.run("git", "tag", "--annotate", "model@v1.0.0", "--message=deployed")
    target = tmp_path / "deployed"
    made.run("dvc", "artifacts", "get", str(made.root), "model", "-o", str(target))
    folder = made.root / "results/export"
    for name in (ONNX, MODEL_JSON, LABELS, MODEL_CARD):
        assert (target / name).read_bytes() == (folder / name).read_bytes()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"export.backbone": "vgg"}, "export.backbone: found 'vgg'"),
        ({"export.seed": 7}, "export.seed: found 7"),
        ({"export.seed": "worst"}, "export.seed"),
        ({"export.tolerance": 0.0}, "export.tolerance"),
    ],
)
def test_invalid_export_parameters_are_rejected(
    study: Any, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(CarbenchError, match=message):
        check(study(changes))


SHARES = arrays(np.float64, (6, 3), elements=st.floats(0.01, 1))


@given(SHARES, st.integers(0, 5), st.floats(1e-3, 0.3))
def test_the_parity_check_detects_every_change(shares: Any, row: int, change: float) -> None:
    """For any probability that changes by more than the tolerance."""
    trained = shares / shares.sum(axis=1, keepdims=True)
    evaluated = trained.argmax(axis=1).tolist()
    same = measure_parity(trained, trained, evaluated, 1e-4)
    require_parity(same, Path("model"))
    other = trained.copy()
    other[row, 0] += change
    with pytest.raises(CarbenchError):
        require_parity(measure_parity(other, trained, evaluated, 1e-4), Path("model"))
    evaluated[row] = (evaluated[row] + 1) % 3
    with pytest.raises(CarbenchError, match="a different class for 1 of 6"):
        require_parity(measure_parity(trained, trained, evaluated, 1e-4), Path("model"))


@pytest.mark.slow
def test_the_model_card_has_the_numbers_and_escapes_class_names(
    smoke_run: Project, metadata: dict[str, Any]
) -> None:
    results = smoke_run.root / "results"
    card = (results / f"export/{MODEL_CARD}").read_text()
    value, low, high = (
        f"{100 * metadata['accuracy'][key]:.1f} %" for key in ("value", "low", "high")
    )
    assert f"{value} ({low} to {high})" in card
    assert metadata["version"] in card
    assert metadata["sha256"][ONNX] in card
    strange = "a|b <script> *c*"
    renamed = metadata | {"classes": [strange, *metadata["classes"][1:]]}
    metrics = json.loads(
        (results / f"evaluate/{metadata['backbone']}/{metadata['seed']}/metrics.json").read_text()
    )
    metrics["clean"]["recall"][strange] = None
    with (results / "summary.csv").open(newline="") as file:
        summary = next(csv.DictReader(file))
    text = render_model_card(renamed, metrics, summary, split_rows([]))
    assert strange not in text
    assert r"| a\|b \<script\> \*c\* | none | 0 | 0 | 0 |" in text


def test_a_folder_without_a_model_is_reported(tmp_path: Path) -> None:
    from carbench.deploy.bundle.loading import load_bundle

    with pytest.raises(CarbenchError, match=r"no model\.json"):
        load_bundle(tmp_path)
    shutil.rmtree(tmp_path)
    with pytest.raises(CarbenchError, match=r"no model\.json"):
        load_bundle(tmp_path)
