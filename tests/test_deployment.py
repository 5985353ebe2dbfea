"""Deploying a model: to the folder of a service, and from one version to another while it runs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from bundles import seal, write_bundle
from carbench.deploy.bundle.loading import load_bundle
from conftest import wait_for
from service_process import CARBENCH, RunningService, run_service

MODEL_JSON = "model.json"


def begin(*arguments: object, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*CARBENCH, "deploy", *map(str, arguments)],
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def deploy(*arguments: object, status: int = 0, **environment: str) -> str:
    """Run the command, which has to end with this status; return its output."""
    process = begin(*arguments, **environment)
    output = process.communicate(timeout=120)[0]
    assert process.returncode == status, output
    assert "Traceback" not in output
    return output


def version(bundle: Path) -> str:
    found: str = json.loads((bundle / MODEL_JSON).read_text())["version"]
    return found


@pytest.fixture
def bundles(tmp_path: Path) -> list[Path]:
    return [write_bundle(tmp_path / f"bundle-{scale}", float(scale)) for scale in range(1, 9)]


def test_a_deployed_model_is_a_copy_and_the_one_before_it_can_be_restored(
    bundles: list[Path], tmp_path: Path
) -> None:
    folder = tmp_path / "served"
    assert "has no release" in deploy("--to", folder)
    deploy("--rollback", "--to", folder, status=1)
    deploy(bundles[0], "--to", folder)
    shown = deploy(bundles[1], "--to", folder)
    assert f"2-{version(bundles[1])} is current" in shown
    assert f"before: 1-{version(bundles[0])}" in shown
    for path in bundles[1].iterdir():
        assert (folder / "current" / path.name).read_bytes() == path.read_bytes()
    # Deploying it again changes nothing; afterwards there is still a way back.
    assert deploy(bundles[1], "--to", folder) == shown
    deploy("--rollback", "--to", folder)
    assert version(folder / "current") == version(bundles[0])
    assert "no release before" in deploy("--rollback", "--to", folder, status=1)
    assert version(folder / "current") == version(bundles[0])


def test_models_of_one_version_with_different_thresholds_are_told_apart(tmp_path: Path) -> None:
    decisions = [{"threshold": threshold, "set_threshold": 0.0} for threshold in (0.5, 0.9)]
    first, second = (
        write_bundle(tmp_path / str(number), decision=decision)
        for number, decision in enumerate(decisions)
    )
    assert version(first) == version(second)
    folder = tmp_path / "served"
    deploy(first, "--to", folder)
    deploy(second, "--to", folder)
    assert load_bundle(folder / "current").model.threshold == 0.9
    deploy("--rollback", "--to", folder)
    assert load_bundle(folder / "current").model.threshold == 0.5


def test_a_damaged_model_is_refused(bundles: list[Path], tmp_path: Path) -> None:
    folder = tmp_path / "served"
    deploy(bundles[0], "--to", folder)
    before = sorted(folder.rglob("*"))
    (bundles[1] / "reference.npz").write_bytes(b"")
    assert "reference.npz: found a file that differs" in deploy(
        bundles[1], "--to", folder, status=1
    )
    # The hashes are right, but the service would not load it.
    content = json.loads((bundles[2] / MODEL_JSON).read_text())
    seal(bundles[2], content | {"classes": content["classes"][::-1]})
    assert "classes: found" in deploy(bundles[2], "--to", folder, status=1)
    assert "no 8-bit model" in deploy(bundles[3], "--to", folder, "--int8", status=1)
    assert sorted(folder.rglob("*")) == before
    # Damage on the machine that serves is repaired by deploying the model again.
    (folder / "current/model.onnx").write_bytes(b"")
    deploy(bundles[0], "--to", folder)
    load_bundle(folder / "current")


def test_only_the_newest_models_are_kept(bundles: list[Path], tmp_path: Path) -> None:
    folder = tmp_path / "served"
    for bundle in bundles[:7]:
        deploy(bundle, "--to", folder)
    deploy("--rollback", "--to", folder)
    deploy(bundles[7], "--to", folder)
    kept = sorted(path.name for path in folder.iterdir() if path.name[0].isdigit())
    assert kept == [f"{n}-{version(bundles[n - 1])}" for n in (3, 4, 5, 6, 8)]
    deploy("--rollback", "--to", folder)
    assert version(folder / "current") == version(bundles[5])


def test_what_a_person_keeps_at_the_link_is_not_replaced(
    bundles: list[Path], tmp_path: Path
) -> None:
    folder = tmp_path / "served"
    folder.mkdir()
    (folder / "current").symlink_to(bundles[0])
    assert "current: found something else" in deploy(bundles[1], "--to", folder, status=1)
    assert (folder / "current").resolve() == bundles[0].resolve()


def test_two_deployments_at_once_do_not_mix(bundles: list[Path], tmp_path: Path) -> None:
    folder = tmp_path / "served"
    entered = tmp_path / "entered"
    first = begin(bundles[0], "--to", folder, "--reload", f"touch {entered}; sleep 10")
    wait_for(entered.exists, first)
    assert "another deployment in progress" in deploy(bundles[1], "--to", folder, status=1)
    first.kill()  # which releases the folder
    first.wait()
    deploy(bundles[1], "--to", folder)
    assert version(folder / "current") == version(bundles[1])


def test_a_killed_deployment_leaves_a_model_that_can_be_served(
    bundles: list[Path], tmp_path: Path
) -> None:
    folder = tmp_path / "served"
    deploy(bundles[0], "--to", folder)
    for number in range(8):
        process = begin(bundles[1 + number % 2], "--to", folder)
        time.sleep(0.2 + 0.02 * number)
        process.kill()
        process.wait()
        load_bundle(folder / "current")
    # After the switch, before the service has been asked.
    killed = begin(bundles[2], "--to", folder, "--reload", "kill -KILL $PPID")
    assert killed.wait(60) == -signal.SIGKILL
    assert version(folder / "current") == version(bundles[2])
    deploy(bundles[3], "--to", folder)
    assert not [path for path in folder.iterdir() if path.name.startswith(".incomplete")]
    deploy("--rollback", "--to", folder)
    assert version(folder / "current") == version(bundles[2])


@contextmanager
def requests_in_progress(
    started: RunningService, content: bytes, key: str
) -> Iterator[list[int | str]]:
    """Classify images all the time; yield the list of status codes and errors."""
    answers: list[int | str] = []
    ended = threading.Event()

    def ask() -> None:
        with httpx.Client(timeout=30, headers={"X-API-Key": key}) as client:
            while not ended.is_set():
                try:
                    answer = client.post(f"{started.url}/v1/predict", files={"image": content})
                    answers.append(answer.status_code)
                except httpx.HTTPError as error:
                    answers.append(repr(error))

    askers = [threading.Thread(target=ask) for _ in range(3)]
    for each in askers:
        each.start()
    try:
        yield answers
    finally:
        ended.set()
        for each in askers:
            each.join()


@pytest.mark.slow
def test_a_running_service_is_updated_and_rolled_back_without_failed_requests(
    bundles: list[Path], tmp_path: Path
) -> None:
    folder = tmp_path / "served"
    key = tmp_path / "key"
    key.write_text("secret")
    deploy(bundles[0], "--to", folder)
    options = ["--model", str(folder / "current"), "--workers", "2", "--api-key-file", str(key)]
    with run_service(tmp_path, *options, "--log", str(tmp_path / "log.sqlite")) as started:
        hup = f"kill -HUP {started.process.pid}"
        to = ["--to", folder, "--reload", hup, "--url", started.url]

        # Without the key nothing is switched.
        assert "--api-key-file" in deploy(bundles[1], *to, status=1)
        assert version(folder / "current") == version(bundles[0])

        with_key = [*to, "--api-key-file", key]
        client = httpx.Client(headers={"X-API-Key": "secret"})
        content = (bundles[0] / "example.jpg").read_bytes()
        with requests_in_progress(started, content, "secret") as answers:
            for arguments, served in (
                ([bundles[1]], bundles[1]),
                (["--rollback"], bundles[0]),
                ([bundles[2]], bundles[2]),
            ):
                before = len(answers)
                shown = deploy(*arguments, *with_key)
                assert f"served by {started.url}" in shown
                found = {client.get(f"{started.url}/v1/model").json()["version"] for _ in range(20)}
                assert found == {version(served)}
                assert len(answers) > before
        assert set(answers) == {200}


@pytest.mark.slow
def test_a_model_that_the_service_refuses_is_switched_back(
    bundles: list[Path], tmp_path: Path
) -> None:
    folder = tmp_path / "served"
    (bundles[0] / "model.int8.onnx").write_bytes((bundles[0] / "model.onnx").read_bytes())
    seal(bundles[0], json.loads((bundles[0] / MODEL_JSON).read_text()))
    deploy(bundles[0], "--to", folder, "--int8")
    options = ["--model", str(folder / "current"), "--int8", "--workers", "1"]
    with run_service(tmp_path, *options, "--log", str(tmp_path / "log.sqlite")) as started:
        hup = ["--reload", f"kill -HUP {started.process.pid}"]
        to = ["--to", folder, "--url", started.url, "--timeout", "5"]
        shown = deploy(bundles[1], *to, *hup, status=1)
        assert f"switched back to 1-{version(bundles[0])}, which is served" in shown
        assert f"found {version(bundles[0])}; expected {version(bundles[1])}" in shown
        # A command that fails is reported in the same way.
        assert "exit status 3 (no)" in deploy(
            bundles[1], *to, "--reload", "echo no; exit 3", status=1
        )
        # So is Ctrl-C while waiting.
        process = begin(bundles[1], *to, "--reload", "true", "--timeout", "60")
        wait_for(lambda: version(folder / "current") == version(bundles[1]), process)
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
        assert version(folder / "current") == version(bundles[0])
        assert httpx.get(f"{started.url}/v1/model").json()["version"] == version(bundles[0])
