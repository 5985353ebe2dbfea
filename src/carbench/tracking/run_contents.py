"""What a tracker is to have of a study: the runs, made from the files of the study alone.

Each training run of the current parameters is a run. When everything is up to date, one more run,
``study``, has the results of all of them: figures, report and the exported model.
"""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from carbench.core.params import read_yaml
from carbench.core.tables import read_table
from carbench.engines.dvc_yaml import PARAMS, JobSpec
from carbench.engines.job_folders import live_folder
from carbench.engines.job_records import JobRecord
from carbench.engines.workspace import Workspace
from carbench.training.live_curve import LiveEpoch, read_live_curve

TRAINING_STAGES = ("train", "subset")
# Stages whose results go to the run of the whole study.
STUDY_STAGES = ("aggregate", "plot", "report", "export")
MODELS = ("model.safetensors", "export")
# Columns of history.csv that are not metrics.
NOT_METRICS = ("epoch", "chosen")
CURVE_FILE = "training.jsonl"


@dataclass(frozen=True)
class Summary:
    """Metrics of a whole run, and when they were known, in seconds since 1970."""

    metrics: Mapping[str, float]
    time: float


@dataclass(frozen=True)
class RunContents:
    """What a run in a tracker is to have.

    Attributes:
        name: of the job, or ``study``.
        key: hash of what it is made from.
        tags: about the run, such as the stage and the commit.
        complete: whether nothing more will be added.
        params: groups of parameters by name, in which each group is complete.
        epochs: of the training run, up to now.
        summaries: groups of metrics of the whole run by a name that changes with them.
        artifacts: files and folders by their name in the tracker.
    """

    name: str
    key: str
    tags: Mapping[str, str]
    complete: bool
    params: Mapping[str, Mapping[str, str]]
    epochs: list[LiveEpoch] = field(default_factory=list)
    summaries: Mapping[str, Summary] = field(default_factory=dict)
    artifacts: Mapping[str, Path] = field(default_factory=dict)


def run_contents(workspace: Workspace, commit: str, models: bool = True) -> Iterator[RunContents]:
    """Yield the runs of a study that have begun.

    Args:
        workspace: the study.
        commit: the current git commit, for runs that have not ended.
        models: whether the weights and the exported model are among the files.
    """
    for job in workspace.jobs.values():
        if job.stage in TRAINING_STAGES and (contents := _training(workspace, job, commit, models)):
            yield contents
    if contents := _study(workspace, commit, models):
        yield contents


def _training(workspace: Workspace, job: JobSpec, commit: str, models: bool) -> RunContents | None:
    """Return the run of a training job; None if the job has not begun."""
    inputs = workspace.inputs_of(job)
    if inputs is None:
        return None
    epochs = read_live_curve(live_folder(workspace.root, job.name, inputs.key) / CURVE_FILE)
    arguments = _arguments(job.command)
    params = {"params": arguments | _flat(dict(inputs.params))}
    tags = {"stage": job.stage, "job": job.name, "commit": commit}
    record = workspace.job_status(job).record
    if record is None:
        if not epochs:
            return None
        return RunContents(job.name, inputs.key, tags, False, params, epochs)
    files = {Path(path).name: workspace.root / path for path in job.outs}
    provenance = json.loads(files["provenance.json"].read_text(encoding="utf-8"))
    tags["commit"] = provenance["git"]["commit"] or ""
    params["recipe"] = _flat({"recipe": provenance["params"]})
    summary = {f"training/{name}": value for name, value in _numbers(provenance).items()}
    if history := files.get("history.csv"):
        rows = read_table(history)
        epochs = _finished_epochs(rows, epochs, *_times(record, history))
        best = next(row for row in rows if row["chosen"] == "1")
        summary |= {f"best/{name}": float(best[name]) for name in best if name not in ("chosen",)}
    summaries = {"training": Summary(summary, _times(record, files["provenance.json"])[1])}
    evaluation = workspace.jobs.get(job.name.replace(job.stage, "evaluate", 1))
    if evaluation and (test := _evaluation(workspace, evaluation)):
        summaries |= test
    return RunContents(
        job.name,
        inputs.key,
        tags,
        evaluation is None or len(summaries) == 2,
        params,
        epochs,
        summaries,
        {
            name: path
            for name, path in files.items()
            if name not in ("history.csv", "val.csv") and (models or name not in MODELS)
        },
    )


def _finished_epochs(
    rows: list[dict[str, str]], live: list[LiveEpoch], start: float, end: float
) -> list[LiveEpoch]:
    """Return the epochs in history.csv.

    The times are those of the live curve. A result from another machine or from the cache has none;
    its epochs are spread evenly over the time of the job.
    """
    times = {each.epoch: each.time for each in live}
    seconds = (end - start) / len(rows)
    return [
        LiveEpoch(
            number,
            len(rows),
            times.get(number, start + number * seconds),
            seconds,
            {name: float(value) for name, value in row.items() if name not in NOT_METRICS},
        )
        for number, row in enumerate(rows, start=1)
    ]


def _evaluation(workspace: Workspace, job: JobSpec) -> dict[str, Summary]:
    """Return the test metrics of a training run, if they are up to date."""
    record = workspace.job_status(job).record
    if record is None:
        return {}
    path = workspace.root / next(out for out in job.outs if out.endswith("metrics.json"))
    groups = json.loads(path.read_text(encoding="utf-8"))
    metrics = {
        f"test/{group}/{name}": value
        for group, values in groups.items()
        if isinstance(values, dict)
        for name, value in _numbers(values).items()
    }
    return {f"test {record.inputs.key}": Summary(metrics, _times(record, path)[1])}


def _study(workspace: Workspace, commit: str, models: bool) -> RunContents | None:
    """Return the run of the whole study; None unless its results are up to date."""
    jobs = [job for job in workspace.jobs.values() if job.stage in STUDY_STAGES]
    records = [workspace.job_status(job).record for job in jobs]
    finished = [record for record in records if record]
    if not jobs or len(finished) < len(jobs):
        return None
    keys = "".join(record.inputs.key for record in finished)
    root = workspace.root
    metrics = root / "results/metrics.json"
    artifacts = {
        path.removeprefix("results/"): root / path
        for job in jobs
        for path in job.outs
        if path.endswith((".png", ".svg", ".html", "summary.csv", "export"))
        and not path.endswith("-narrow.svg")
        and (models or Path(path).name not in MODELS)
    }
    summary = _numbers(json.loads(metrics.read_text(encoding="utf-8")))
    return RunContents(
        "study",
        hashlib.sha256(keys.encode()).hexdigest()[:32],
        {"stage": "study", "commit": commit},
        True,
        {"params": _flat(read_yaml(root / PARAMS))},
        summaries={
            "study": Summary(
                {f"study/{name}": value for name, value in summary.items()},
                max(_times(record, metrics)[1] for record in finished),
            )
        },
        artifacts=artifacts,
    )


def _times(record: JobRecord, output: Path) -> tuple[float, float]:
    """Return when a job started and ended; an entry of dvc.lock does not tell."""
    changed = output.stat().st_mtime
    return record.times or (changed, changed)


def _arguments(command: str) -> dict[str, str]:
    """Return what distinguishes a job from others of its stage, as its command line has it."""
    words = shlex.split(command)
    names = ("backbone", "seed", "fraction")
    return {name: words[words.index(f"--{name}") + 1] for name in names if f"--{name}" in words}


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Return nested parameters with dotted names, lists as JSON."""
    found: dict[str, str] = {}
    for name, value in values.items():
        if isinstance(value, dict):
            found |= _flat(value, f"{prefix}{name}.")
        else:
            found[f"{prefix}{name}"] = (
                value if isinstance(value, str) else json.dumps(value, default=str)
            )
    return found


def _numbers(values: Mapping[str, Any]) -> dict[str, float]:
    return {
        name: float(value)
        for name, value in values.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }
