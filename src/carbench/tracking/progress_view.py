"""The progress of a study as text, for a terminal or a pipe."""

from __future__ import annotations

import socket
import subprocess
import time
from contextlib import suppress

import psutil
from rich.console import Group
from rich.table import Table
from rich.text import Text

from carbench.tracking.study_progress import RunningJob, StudyProgress

MAX_NAMES = 5


def progress_view(progress: StudyProgress) -> Group:
    """Return a line about the study, one per running job, and one about the machine."""
    parts: list[Text | Table] = [Text(_headline(progress), style="bold")]
    if progress.running:
        table = Table.grid(padding=(0, 3))
        for job in progress.running:
            table.add_row(*_job_columns(job))
        parts.append(table)
    if progress.stopped:
        parts.append(Text(f"stopped, to be continued: {_names(progress.stopped)}"))
    parts.append(Text(_machine(), style="dim"))
    return Group(*parts)


def duration(seconds: float) -> str:
    """Return a duration as people say it: 40 s, 12 min, 3 h 20 min."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    hours, rest = divmod(minutes, 60)
    return f"{hours} h {rest} min" if hours else f"{minutes} min"


def _headline(progress: StudyProgress) -> str:
    counts = {
        "running": len(progress.running),
        "stopped": len(progress.stopped),
        "waiting": len(progress.waiting),
    }
    total = len(progress.done) + sum(counts.values())
    states = [f"{count} {state}" for state, count in counts.items() if count]
    line = ", ".join([f"{len(progress.done)} of {total} jobs done", *states])
    if progress.seconds_left is not None:
        line += f"; about {duration(progress.seconds_left)} left"
        if progress.unknown:
            line += f", without {_names(progress.unknown)}, which never ran"
    elif not progress.finished:
        line += "; no job is running"
    return line


def _job_columns(job: RunningJob) -> list[str]:
    """Return name, position, accuracy and time of a running job."""
    place = "" if job.holder.host == socket.gethostname() else f" on {job.holder.host}"
    position = accuracy = ""
    if job.training:
        last = job.training.epochs[-1]
        position = f"epoch {last.epoch} of {last.epochs}"
        if job.training.curves > 1:
            position = f"trial {job.training.curve} of {job.training.curves}, {position}"
        accuracy = f"val accuracy {100 * last.metrics['val_accuracy']:.1f} %"
    passed = f"for {duration(max(0.0, time.time() - job.holder.since))}"
    left = "" if job.seconds_left is None else f", about {duration(job.seconds_left)} left"
    return [f"{job.name}{place}", position, accuracy, f"{passed}{left}"]


def _machine() -> str:
    memory = psutil.virtual_memory()
    used = f"{(memory.total - memory.available) / 1e9:.1f} of {memory.total / 1e9:.1f} GB"
    return "; ".join([f"CPU {psutil.cpu_percent(0.2):.0f} %, memory {used}", *_gpus()])


def _gpus() -> list[str]:
    """Return the use of each GPU; nothing without NVIDIA's driver."""
    query = "--query-gpu=index,utilization.gpu,memory.used,memory.total"
    with suppress(OSError, subprocess.SubprocessError, ValueError):
        done = subprocess.run(
            ["nvidia-smi", query, "--format=csv,noheader,nounits"],
            capture_output=True,
            text=True,
            timeout=5,
            check=True,
        )
        rows = [line.split(", ") for line in done.stdout.splitlines()]
        return [
            f"GPU {index} {use} %, memory {float(used) / 1024:.1f} of {float(total) / 1024:.1f} GiB"
            for index, use, used, total in rows
        ]
    return []


def _names(names: list[str]) -> str:
    more = f" and {len(names) - MAX_NAMES} more" if len(names) > MAX_NAMES else ""
    return ", ".join(names[:MAX_NAMES]) + more
