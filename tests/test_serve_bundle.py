"""Verification of the exported folder, invalid options, and model updates on SIGHUP."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import numpy as np
import pytest

from bundles import CLASSES, colour_model, seal, sha256, write_bundle, write_study
from carbench.core.errors import CarbenchError
from carbench.deploy.bundle.loading import load_bundle
from carbench.deploy.bundle.observations import observe, write_observations
from carbench.models.onnx_classifier import OnnxModel
from service_process import RunningService, children, run_service


def other_model(folder: Path) -> None:
    (folder / "model.onnx").write_bytes(colour_model(3.0))


def other_reference(folder: Path) -> None:
    model = OnnxModel(folder / "model.onnx", 1)
    write_observations(folder / "reference.npz", observe(model, [np.zeros((40, 32, 32, 3), "u1")]))


def no_labels(folder: Path) -> None:
    (folder / "labels.json").unlink()


def another_example(folder: Path) -> None:
    (folder / "example.jpg").write_bytes(b"")


def renamed_classes(folder: Path) -> None:
    metadata = json.loads((folder / "model.json").read_text())
    seal(folder, metadata | {"classes": CLASSES[::-1]})


def renamed_labels(folder: Path) -> None:
    (folder / "labels.json").write_text(json.dumps(CLASSES[::-1]))
    seal(folder, json.loads((folder / "model.json").read_text()))


def narrow_reference(folder: Path) -> None:
    seen = observe(OnnxModel(folder / "model.onnx", 1), [np.zeros((40, 32, 32, 3), "u1")])
    object.__setattr__(seen, "embedding", seen.embedding[:, :2])
    write_observations(folder / "reference.npz", seen)
    seal(folder, json.loads((folder / "model.json").read_text()))


def no_model(folder: Path) -> None:
    (folder / "model.onnx").write_bytes(b"not an ONNX file")
    seal(folder, json.loads((folder / "model.json").read_text()))


def no_size(folder: Path) -> None:
    metadata = json.loads((folder / "model.json").read_text())
    (folder / "model.json").write_text(json.dumps(metadata | {"input": {"fit": "squash"}}))


def a_path_outside(folder: Path) -> None:
    metadata = json.loads((folder / "model.json").read_text())
    metadata["sha256"]["../model.onnx"] = sha256(folder / "model.onnx")
    (folder / "model.json").write_text(json.dumps(metadata))


def a_list(folder: Path) -> None:
    (folder / "model.json").write_text("[]")


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (other_model, "model.onnx: found a file that differs from the exported one"),
        (other_reference, "reference.npz: found a file that differs from the exported one"),
        (no_labels, "labels.json: found nothing"),
        (another_example, "example.jpg: found a file that differs from the exported one"),
        (renamed_classes, "model.onnx: classes: found ['blue'"),
        (renamed_labels, "labels.json: classes: found ['grey'"),
        (narrow_reference, "reference.npz: found classes or an embedding (2 dimensions)"),
        (no_model, "model.onnx: found no valid ONNX model"),
        (no_size, "model.json: input.size: found"),
        (a_path_outside, "model.onnx: found nothing"),
        (a_list, "model.json: found"),
    ],
)
def test_an_inconsistent_folder_is_rejected(
    tmp_path: Path, broken: Callable[[Path], None], message: str
) -> None:
    folder = write_bundle(tmp_path / "export")
    assert load_bundle(folder).model.classes == CLASSES
    broken(folder)
    with pytest.raises(CarbenchError) as error:
        load_bundle(folder)
    assert message in str(error.value)


def test_int8_without_an_8_bit_model_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(CarbenchError, match="no 8-bit model"):
        load_bundle(write_bundle(tmp_path / "export"), int8=True)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--model", "nowhere"], "expected a model written by stage export"),
        (["--int8"], "found no 8-bit model"),
        (["--log", "diary"], "file is not a database"),
        (["--log", "/dev/null/log"], "grant write permission"),
        (
            ["--keep-pictures"],
            "--keep-pictures: found an option that was renamed; expected --keep-im",
        ),
        (["--workers", "0"], "--workers: found '0'; expected a whole number from 1"),
        (["--workers", "two"], "--workers: found 'two'"),
        (["--port", "70000"], "--port: found '70000'"),
        (["--host", "192.0.2.1"], "192.0.2.1:0: found an address that is not available"),
        (["--deadline", "nan"], "--deadline: found 'nan'"),
        (["--allow-origin", "example.org"], "--allow-origin: found 'example.org'"),
        (["--api-key-file", "nowhere"], "nowhere: found no readable key"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_invalid_options_end_with_a_one_line_error(
    deployed: Path, tmp_path: Path, options: list[str], message: str
) -> None:
    (tmp_path / "diary").write_text("this is a text file and not a log" * 30)
    usual = ["--model", str(deployed / "results/export"), "--port", "0"]
    done = subprocess.run(
        [sys.executable, "-m", "carbench.cli.main", "serve", *usual, *options],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.slow
def test_a_port_in_use_is_reported(service: RunningService, tmp_path: Path) -> None:
    """Also if the port is set by the environment variable PORT."""
    done = subprocess.run(
        [sys.executable, "-m", "carbench.cli.main", "serve", "--log", str(tmp_path / "log.sqlite")],
        cwd=service.study,
        env=os.environ | {"PORT": str(service.port)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1
    assert f"127.0.0.1:{service.port}: found an address that is not available" in done.stderr


@pytest.mark.slow
def test_sighup_updates_the_model_without_failed_requests(tmp_path: Path) -> None:
    study = write_study(tmp_path / "study")
    folder = study / "results/export"
    content = (folder / "example.jpg").read_bytes()
    old = json.loads((folder / "model.json").read_text())["version"]
    answers: list[tuple[int, str | None]] = []
    ended = threading.Event()

    def ask(url: str) -> None:
        with httpx.Client() as client:  # keeps its connection, which must stay open
            while not ended.is_set():
                answer = client.post(f"{url}/v1/predict", files={"image": content}, timeout=30)
                answers.append((answer.status_code, answer.json().get("model")))

    options = ["--workers", "2", "--log", str(tmp_path / "log.sqlite")]
    with run_service(study, *options) as started:
        # Changes to the folder have no effect on the version that is served, not even after a
        # worker is restarted.
        shutil.rmtree(folder)
        write_bundle(folder, scale=3.0)
        new = json.loads((folder / "model.json").read_text())["version"]
        workers = children(started.process.pid)
        os.kill(workers[-1], signal.SIGKILL)
        assert new != old
        assert eventually(lambda: all(version(started) == old for _ in range(5)))
        askers = [threading.Thread(target=ask, args=(started.url,)) for _ in range(4)]
        for each in askers:
            each.start()
        time.sleep(0.5)
        started.process.send_signal(signal.SIGHUP)
        assert eventually(lambda: [model for _, model in answers[-20:]] == [new] * 20)
        assert eventually(lambda: {version(started) for _ in range(20)} == {new})
        assert served_versions(started) == {new}

        # A damaged folder changes nothing, and the error is logged.
        (folder / "reference.npz").write_bytes(b"")
        started.process.send_signal(signal.SIGHUP)
        time.sleep(1.5)
        assert {version(started) for _ in range(10)} == {new}
        ended.set()
        for each in askers:
            each.join()
        started.process.terminate()
        stderr = started.process.communicate(timeout=30)[1]
    assert {status for status, _ in answers} == {200}
    assert {model for _, model in answers} == {old, new}
    assert f"now serving {new}" in stderr
    assert "still serving the previous model" in stderr and "reference.npz" in stderr
    assert "Traceback" not in stderr


def eventually(check: Callable[[], bool], seconds: float = 20) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            if check():
                return True
        except httpx.HTTPError:
            continue
        time.sleep(0.1)
    return False


def version(started: RunningService) -> str:
    found: str = httpx.get(f"{started.url}/v1/model").json()["version"]
    return found


def served_versions(started: RunningService) -> set[str]:
    """Return the versions in the metrics."""
    text = httpx.get(f"{started.url}/metrics").text
    return set(re.findall(r'^carbench_model\{version="(.*)"\} 1.0$', text, re.M))
