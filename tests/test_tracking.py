"""What trackers get of a study, read back from the trackers themselves."""

from __future__ import annotations

import csv
import os
import shlex
import shutil
import signal
import struct
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from carbench.core.errors import CarbenchError
from carbench.engines.dvc_yaml import one_line, read_jobs
from carbench.tracking.follow import Follower
from carbench.tracking.trackers import MODULES, Destination, open_tracker
from conftest import Project, active_environment, copy_project, repeatable, set_key
from service_process import free_port

pytestmark = pytest.mark.slow

JOB = "train@resnet-0"
HISTORY = "results/train/resnet/0/history.csv"
EPOCHS = 20
Curve = list[tuple[int, float]]


def history(project: Project, metric: str = "val_loss") -> Curve:
    with (project.root / HISTORY).open() as file:
        return [(int(row["epoch"]), float(row[metric])) for row in csv.DictReader(file)]


def live_file(project: Project) -> Path:
    (path,) = (project.root / ".carbench/live" / JOB).glob("*/training.jsonl")
    return path


# Trackers that write files.


def read_wandb(project: Project) -> tuple[Curve, dict[str, str], set[str]]:
    """Return the points, the parameters and the names of other records, of all offline runs."""
    from wandb.proto.wandb_internal_pb2 import Record

    points: Curve = []
    params: dict[str, str] = {}
    names: set[str] = set()
    for path in sorted(project.root.glob("wandb/offline-run-*/run-train-resnet-0-*.wandb")):
        for content in wandb_records(path.read_bytes()):
            record = Record.FromString(content)
            names |= {"/".join([item.key, *item.nested_key]) for item in record.summary.update}
            names.add(record.artifact.type)
            updates = [*record.run.config.update, *record.config.update]
            params |= {item.key: item.value_json.strip('"') for item in updates}
            row = {item.key or item.nested_key[0]: item.value_json for item in record.history.item}
            if "val_loss" in row:
                points.append((record.history.step.num, float(row["val_loss"])))
    return points, params, names


def wandb_records(content: bytes) -> Iterator[bytes]:
    """Yield the records of a run's file: LevelDB's log format after a header of 7 bytes."""
    position, parts = 7, b""
    while position + 7 <= len(content):
        if 32768 - position % 32768 < 7:  # no header of a record fits into the rest of a block
            position += 32768 - position % 32768
            continue
        _, length, kind = struct.unpack("<IHB", content[position : position + 7])
        parts += content[position + 7 : position + 7 + length]
        position += 7 + length
        if kind in (1, 4):  # complete
            yield parts
            parts = b""


def read_dvclive(project: Project) -> tuple[Curve, dict[str, str], set[str]]:
    (folder,) = project.root.glob(f"dvclive/{JOB}-*")
    with (folder / "plots/metrics/val_loss.tsv").open() as file:
        points = [
            (int(row["step"]), float(row["val_loss"]))
            for row in csv.DictReader(file, delimiter="\t")
        ]
    names = {path.name for path in folder.glob("artifacts/*")}
    params = yaml.safe_load((folder / "params.yaml").read_text())
    names |= set(yaml.safe_load((folder / "metrics.json").read_text()))
    return points, params, names


def read_tensorboard(project: Project) -> tuple[Curve, dict[str, str], set[str]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    (folder,) = project.root.glob(f"runs/{JOB}-*")
    events = EventAccumulator(str(folder), size_guidance={"scalars": 0, "tensors": 0})
    events.Reload()
    points = [(each.step, each.value) for each in events.Scalars("val_loss")]
    texts = [
        line
        for each in events.Tensors("params/text_summary")
        for value in each.tensor_proto.string_val
        for line in value.decode().splitlines()
    ]
    params = dict(line.strip("| ").split(" | ", 1) for line in texts if " | " in line)
    return points, params, set(events.Tags()["scalars"])


READERS: dict[str, Callable[[Project], tuple[Curve, dict[str, str], set[str]]]] = {
    "wandb": read_wandb,
    "dvclive": read_dvclive,
    "tensorboard": read_tensorboard,
}
EXPECTED = {
    "wandb": {"best/val_loss", "test/clean/accuracy", "model"},
    "dvclive": {"best", "test", "model.safetensors", "provenance.json"},
    "tensorboard": {"best/val_loss", "test/clean/accuracy"},
}


@pytest.mark.parametrize("to", READERS)
def test_a_restarted_tracker_continues_the_same_run(
    to: str, smoke_run: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    project = copy_project(smoke_run, tmp_path / "study")
    before = repeatable(project)

    def send() -> bool:
        follower = Follower(project.root, open_tracker(to, Destination(project.root, "study")))
        try:
            return follower.send()
        finally:
            follower.close()

    # As if the job were in its second epoch.
    live, weights = live_file(project), project.root / "results/train/resnet/0/model.safetensors"
    lines = live.read_text().splitlines(keepends=True)
    live.write_text(lines[0])
    weights.rename(tmp_path / "weights")
    assert not send()
    points, params, names = READERS[to](project)
    assert points == [(1, pytest.approx(history(project)[0][1]))]
    assert params["train.epochs"] == "2"
    assert not names & EXPECTED[to]
    # And now it is finished.
    (tmp_path / "weights").rename(weights)
    live.write_text("".join(lines))
    for _ in range(2):
        assert send()
    points, params, names = READERS[to](project)
    assert [step for step, _ in points] == [1, 2]
    # TensorBoard keeps float32.
    assert dict(points) == pytest.approx(dict(history(project)))
    assert params["recipe.epochs"] == "2"
    assert names >= EXPECTED[to]
    assert repeatable(project) == before
    others = (":!results", ":!dvc.lock")
    assert project.run("git", "status", "--porcelain", "--", ".", *others).stdout == ""
    assert "Nothing would run again" in project.run("carbench", "why").stdout


# MLflow, on a server.


@contextmanager
def mlflow_server(folder: Path, port: int) -> Iterator[str]:
    """Run MLflow with a database in a folder."""
    folder.mkdir(exist_ok=True)
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1"]
    command += ["--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{folder}/mlflow.db"]
    command += ["--artifacts-destination", str(folder / "artifacts")]
    environment = active_environment() | {"MLFLOW_DISABLE_TELEMETRY": "true"}
    with (folder / "log").open("a") as log:
        process = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=log, stderr=log, start_new_session=True
        )
    url = f"http://127.0.0.1:{port}"
    try:
        wait_until(lambda: answers(f"{url}/health"), (folder / "log").read_text)
        yield url
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(30)


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as response:
            return bool(response.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def wait_until(reached: Callable[[], object], explain: Callable[[], str]) -> None:
    deadline = time.monotonic() + 300
    while not reached():
        assert time.monotonic() < deadline, explain()
        time.sleep(0.05)


def mlflow_runs(url: str) -> list[Any]:
    from mlflow.tracking import MlflowClient

    client = MlflowClient(url)
    experiment = client.get_experiment_by_name("cars")
    return list(client.search_runs([experiment.experiment_id])) if experiment else []


def mlflow_curve(url: str, run: str, metric: str = "val_loss") -> Curve:
    from mlflow.tracking import MlflowClient

    points = MlflowClient(url).get_metric_history(run, metric)
    return [(each.step, each.value) for each in points]


def test_mlflow_has_one_continuous_curve_of_a_killed_and_resumed_training(
    smoke_run: Project, tmp_path: Path
) -> None:
    """The server is down when the training ends, and the tracker continues later."""
    project = copy_project(smoke_run, tmp_path / "study")
    params = project.params
    set_key(params, "train.epochs", EPOCHS)
    project.set_params(params)
    words = shlex.split(one_line(read_jobs(project.root)[JOB].command))
    training = [sys.executable, *words[1:]]
    port = free_port()
    address = ("--address", f"http://127.0.0.1:{port}", "--project", "cars")
    command = ["carbench", "track", "--to", "mlflow", *address]
    environment = active_environment() | {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}
    log = tmp_path / "track.log"

    def start(*words: str, output: Path) -> subprocess.Popen[str]:
        with output.open("a") as file:
            return subprocess.Popen(
                words, cwd=project.root, env=environment, stdout=file, stderr=file, text=True
            )

    def curve(url: str) -> Curve:
        found = [
            run
            for run in mlflow_runs(url)
            if run.info.run_name == JOB and run.data.params.get("train.epochs") == str(EPOCHS)
        ]
        return mlflow_curve(url, found[0].info.run_id) if len(found) == 1 else []

    with mlflow_server(tmp_path / "mlflow", port) as url:
        tracker = start(*command, "--watch", "--interval", "0.5", output=log)
        try:
            run = start(*training, output=tmp_path / "train.log")
            wait_until(lambda: curve(url), log.read_text)
            run.kill()
            run.wait()
        except BaseException:
            tracker.kill()
            raise
    try:
        project.run(*training)
        wait_until(lambda: "trying again every 0.5 s" in log.read_text(), log.read_text)
        assert tracker.poll() is None
        with mlflow_server(tmp_path / "mlflow", port) as url:
            wait_until(lambda: len(curve(url)) == EPOCHS, log.read_text)
            tracker.terminate()
            assert tracker.wait(60) == 130
            assert curve(url) == history(project)
            # Started again, it finds its runs, even if its notes are lost.
            shutil.rmtree(project.root / ".carbench/track")
            project.run(*command)
            assert curve(url) == history(project)
            assert [run.info.run_name for run in mlflow_runs(url)].count(JOB) == 1
            check_mlflow_run(url, project)
    finally:
        tracker.kill()
        tracker.wait()
    # The results are those of a training that nobody tracks.
    weights = project.root / "results/train/resnet/0/model.safetensors"
    tracked = weights.read_bytes(), history(project)
    project.run(*training, "--again")
    assert (weights.read_bytes(), history(project)) == tracked


def check_mlflow_run(url: str, project: Project) -> None:
    """The run of the training job has its parameters, tags and files."""
    from mlflow.tracking import MlflowClient

    (run,) = [run for run in mlflow_runs(url) if run.info.run_name == JOB]
    keys = {path.name for path in (project.root / ".carbench/live" / JOB).iterdir()}
    assert run.data.tags["carbench.key"] in keys
    assert (
        run.data.tags["carbench.commit"] == project.run("git", "rev-parse", "HEAD").stdout.strip()
    )
    assert run.data.params["backbone"] == "resnet"
    files = {each.path for each in MlflowClient(url).list_artifacts(run.info.run_id)}
    assert files == {"model.safetensors", "provenance.json"}


def test_a_tracker_that_does_not_answer_is_reported_in_a_sentence(
    smoke_run: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    address = f"http://127.0.0.1:{free_port()}"
    done = smoke_run.run("carbench", "track", "--to", "mlflow", "--address", address, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith(f"MLflow ({address}): found an error with train@resnet-0: ")
    assert "Fix: " in done.stderr
    assert "Traceback" not in done.stderr


def test_the_study_is_a_run_with_figures_report_and_model(
    smoke_run: Project, tmp_path: Path
) -> None:
    from mlflow.tracking import MlflowClient

    project = copy_project(smoke_run, tmp_path / "study")
    address = f"sqlite:///{tmp_path}/mlflow.db"
    tracker = open_tracker("mlflow", Destination(project.root, "cars", address))
    follower = Follower(project.root, tracker)
    assert follower.send()
    runs = {run.info.run_name: run for run in mlflow_runs(address)}
    assert set(runs) == {
        JOB,
        "train@mobilenet-0",
        "subset@resnet-0.5-0",
        "subset@mobilenet-0.5-0",
        "study",
    }
    assert {run.info.status for run in runs.values()} == {"FINISHED"}
    for metric in ("lr", "train_loss", "val_loss", "val_accuracy"):
        assert mlflow_curve(address, runs[JOB].info.run_id, metric) == history(project, metric)
    study = runs["study"].info.run_id
    client = MlflowClient(address)
    names = {each.path for each in client.list_artifacts(study)}
    assert names == {"export", "figures", "report.html", "summary.csv"}
    figures = {each.path for each in client.list_artifacts(study, "figures")}
    assert {"figures/accuracy.svg", "figures/pareto.png"} <= figures
    export = {each.path for each in client.list_artifacts(study, "export")}
    assert "export/model.onnx" in export


def test_a_tracker_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for to, module in MODULES.items():
        monkeypatch.delitem(sys.modules, module, raising=False)
        for name in [to, *(each for each in sys.modules if each.startswith(f"{to}."))]:
            monkeypatch.setitem(sys.modules, name, None)
        with pytest.raises(CarbenchError, match=rf"Fix: pip install 'carbench\[{to}\]'"):
            open_tracker(to, Destination(Path(), "cars"))
