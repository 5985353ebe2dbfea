"""`carbench watch` shows what runs, how far it is, and what it will take."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from carbench.engines.job_folders import live_folder, scratch_folder
from carbench.engines.locks import lock_holder, named_lock
from carbench.engines.sync import open_workspace
from carbench.tracking.progress_view import duration
from carbench.tracking.study_progress import StudyProgress, TrainingProgress, study_progress
from carbench.training.live_curve import LiveCurve, LiveEpoch
from conftest import Project, copy_project, wait_for

JOB = "train@resnet-0"


def progress(project: Project) -> StudyProgress:
    return study_progress(open_workspace(project.root))


@pytest.mark.slow
def test_jobs_are_done_running_stopped_or_waiting(smoke_run: Project, tmp_path: Path) -> None:
    project = copy_project(smoke_run, tmp_path / "study")
    everything = progress(project)
    assert everything.finished
    for name in ("train/resnet/0/model.safetensors", "evaluate/resnet/0/metrics.json"):
        (project.root / "results" / name).unlink()
    (waiting,) = {JOB} & set(progress(project).waiting)
    with named_lock(project.root, waiting, on_wait=None):
        (running,) = progress(project).running
        assert (running.name, running.training) == (JOB, None)
        # As long as the job took before; it has just begun.
        assert running.seconds_left is not None
        inputs = open_workspace(project.root).inputs_of(open_workspace(project.root).jobs[JOB])
        assert inputs
        curve = LiveCurve(live_folder(project.root, JOB, inputs.key) / "training.jsonl", 50, [])
        row = {"lr": 0.1, "train_loss": 1.0, "val_loss": 1.0, "val_accuracy": 0.831}
        for epoch in (1, 2):
            curve.append({"epoch": epoch, **row})
        (running,) = progress(project).running
        assert running.training
        assert running.training.epochs[-1].epoch == 2
        shown = project.run("carbench", "watch").stdout
        assert "1 running" in shown.splitlines()[0]
        assert "epoch 2 of 50" in shown
        assert "val accuracy 83.1 %" in shown
        assert "\x1b" not in shown  # plain text in a pipe
    assert JOB in progress(project).waiting
    scratch_folder(project.root, JOB).mkdir(parents=True)
    stopped = progress(project)
    assert stopped.stopped == [JOB]
    assert stopped.seconds_left is None
    assert "no job is running" in project.run("carbench", "watch").stdout


def test_a_killed_process_does_not_hold_a_lock(tmp_path: Path) -> None:
    code = f"""
import time
from pathlib import Path
from carbench.engines.locks import named_lock

with named_lock(Path({str(tmp_path)!r}), "job", None):
    time.sleep(60)
"""
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    wait_for(lambda: lock_holder(tmp_path, "job"), process)
    holder = lock_holder(tmp_path, "job")
    assert holder
    assert holder.process == process.pid
    assert abs(holder.since - time.time()) < 60
    process.kill()
    process.communicate()
    assert lock_holder(tmp_path, "job") is None
    with named_lock(tmp_path, "job", on_wait=None):
        assert lock_holder(tmp_path, "job")
    assert lock_holder(tmp_path, "job") is None


def test_epochs_tell_how_long_a_run_takes() -> None:
    """The first epoch took longer, and the next one began 4 seconds ago."""
    seconds = [30.0, 10.0, 10.0]
    epochs = [
        LiveEpoch(epoch, 10, 1000.0 + epoch, took, {}) for epoch, took in enumerate(seconds, 1)
    ]
    assert TrainingProgress(epochs, 1, 1).seconds_left(1007.0) == 7 * 10 - 4
    assert TrainingProgress(epochs, 2, 4).seconds_left(1007.0) == 27 * 10 - 4
    assert TrainingProgress(epochs, 1, 1).seconds_left(2000.0) == 0


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (59, "59 s"), (90, "2 min"), (7260, "2 h 1 min")]
)
def test_durations_are_short(seconds: float, text: str) -> None:
    assert duration(seconds) == text
