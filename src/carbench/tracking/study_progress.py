"""How far a running study is: which jobs are done, running and waiting, and how long it may take.

All of it is read from what jobs leave behind (records, locks, live curves), so that it is the same
for Snakemake, DVC and a job started by hand. Times are estimates: epochs of a training run take as
long as its last ones, other jobs as long as similar ones before.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from carbench.engines.dvc_yaml import JobSpec
from carbench.engines.job_folders import live_folder, scratch_folder
from carbench.engines.job_records import records_of_job
from carbench.engines.locks import LockHolder, lock_holder
from carbench.engines.workspace import Workspace
from carbench.tracking.run_contents import CURVE_FILE
from carbench.training.live_curve import LiveEpoch, read_live_curve

# Epochs that tell how long the next ones take.
RECENT_EPOCHS = 10


@dataclass(frozen=True)
class TrainingProgress:
    """The curve that a running job is at.

    Attributes:
        epochs: those that have ended, at least one.
        curve: the number of the curve, from 1 on.
        curves: how many the job has: the trials of a learning-rate search, else 1.
    """

    epochs: list[LiveEpoch]
    curve: int
    curves: int

    def seconds_left(self, now: float) -> float:
        """Return how long the job may still take.

        Args:
            now: the current time, in seconds since 1970.
        """
        last = self.epochs[-1]
        left = last.epochs - last.epoch + (self.curves - self.curve) * last.epochs
        seconds = median(each.seconds for each in self.epochs[-RECENT_EPOCHS:])
        return max(0.0, left * seconds - max(0.0, now - last.time))


@dataclass(frozen=True)
class RunningJob:
    """A job that a process runs.

    Attributes:
        name: of the job.
        holder: the process.
        training: its epochs; None if it does not train or no epoch has ended.
        seconds_left: an estimate; None if there is nothing to estimate from.
    """

    name: str
    holder: LockHolder
    training: TrainingProgress | None
    seconds_left: float | None


@dataclass(frozen=True)
class StudyProgress:
    """The jobs of a study by state.

    Attributes:
        done: jobs that are up to date.
        running: jobs that a process runs.
        stopped: jobs that were killed or failed, and continue when an engine runs them again.
        waiting: the others.
        seconds_left: an estimate for all of them; None if nothing runs.
        unknown: stages of waiting jobs that the estimate leaves out: none of their jobs ever ended.
    """

    done: list[str]
    running: list[RunningJob]
    stopped: list[str]
    waiting: list[str]
    seconds_left: float | None
    unknown: list[str]

    @property
    def finished(self) -> bool:
        """Whether all jobs are up to date."""
        return not (self.running or self.stopped or self.waiting)


def study_progress(workspace: Workspace) -> StudyProgress:
    """Return the progress of a study."""
    now = time.time()
    done: list[str] = []
    running: list[RunningJob] = []
    stopped: list[str] = []
    waiting: list[str] = []
    times = _recorded_times(workspace)
    for name, job in workspace.jobs.items():
        if workspace.job_status(job).up_to_date:
            done.append(name)
        elif holder := lock_holder(workspace.root, name):
            running.append(_running_job(workspace, job, holder, times, now))
        elif scratch_folder(workspace.root, name).is_dir():
            stopped.append(name)
        else:
            waiting.append(name)
    seconds, unknown = _seconds_left(workspace.jobs, running, [*stopped, *waiting], times, now)
    return StudyProgress(done, running, stopped, waiting, seconds, unknown)


def _running_job(
    workspace: Workspace,
    job: JobSpec,
    holder: LockHolder,
    times: Mapping[str, float],
    now: float,
) -> RunningJob:
    training = _training_progress(workspace, job, holder)
    if training:
        left: float | None = training.seconds_left(now)
    else:
        usual = times.get(job.name, times.get(job.stage))
        left = None if usual is None else max(0.0, usual - (now - holder.since))
    return RunningJob(job.name, holder, training, left)


def _training_progress(
    workspace: Workspace, job: JobSpec, holder: LockHolder
) -> TrainingProgress | None:
    """Return the newest curve of a running job that has an epoch; None if there is none."""
    inputs = workspace.inputs_of(job)
    if inputs is None:
        return None
    folder = live_folder(workspace.root, job.name, inputs.key)
    # Not those of an earlier run with the same inputs.
    curves = {
        path.stem: read_live_curve(path)
        for path in folder.glob("*.jsonl")
        if path.stat().st_mtime >= holder.since
    }
    if job.stage == "tune":
        trials = len(inputs.params["tune"]["learning_rates"])
        started = [number for number in range(trials) if curves.get(f"trial-{number}")]
        if not started:
            return None
        return TrainingProgress(curves[f"trial-{started[-1]}"], started[-1] + 1, trials)
    epochs = curves.get(Path(CURVE_FILE).stem)
    return TrainingProgress(epochs, 1, 1) if epochs else None


def _recorded_times(workspace: Workspace) -> dict[str, float]:
    """Return how many seconds jobs took before: by job, and the median of each stage by stage."""
    found: dict[str, float] = {}
    of_stage: dict[str, list[float]] = {}
    for name, job in workspace.jobs.items():
        newest = next((each for each in records_of_job(workspace.root, name) if each.times), None)
        if newest and newest.times:
            found[name] = newest.times[1] - newest.times[0]
            of_stage.setdefault(job.stage, []).append(found[name])
    return found | {stage: median(values) for stage, values in of_stage.items()}


def _seconds_left(
    jobs: Mapping[str, JobSpec],
    running: list[RunningJob],
    waiting: list[str],
    times: Mapping[str, float],
    now: float,
) -> tuple[float | None, list[str]]:
    """Return the estimate for the study, and the stages of which nothing is known."""
    if not running:
        return None, []
    # Of a stage of which no job has ended, a running one tells how long it will have taken.
    expected = {
        jobs[each.name].stage: now - each.holder.since + each.seconds_left
        for each in running
        if each.seconds_left is not None
    }
    left = [each.seconds_left or 0.0 for each in running]
    unknown = [jobs[each.name].stage for each in running if each.seconds_left is None]
    rest = 0.0
    for name in waiting:
        stage = jobs[name].stage
        seconds = times.get(name, times.get(stage, expected.get(stage)))
        if seconds is None:
            unknown.append(stage)
        else:
            rest += seconds
    # As many jobs at a time as now.
    total = max(max(left), (sum(left) + rest) / len(running))
    return total, list(dict.fromkeys(unknown))
