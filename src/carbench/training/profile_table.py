"""Where a training step goes: from the events of the torch profiler to a table."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

# The labels of a step in the training loop, in their order.
LOAD, AUGMENT, NORMALIZE = "load", "augment", "normalize"
FORWARD, LOSS, BACKWARD = "forward", "loss", "backward"
CLIP, OPTIMIZER, AVERAGE = "clip gradients", "optimizer", "weight average"
PARTS = (LOAD, AUGMENT, NORMALIZE, FORWARD, LOSS, BACKWARD, CLIP, OPTIMIZER, AVERAGE)
OTHER = "other"
# The torch profiler's own label of a step; the rest of the name is a number or a star.
STEP = "ProfilerStep"
OPERATORS = 12


@dataclass(frozen=True)
class Clock:
    """Seconds that passed, and seconds of CPU time of all threads of this process.

    On shared cores, the first include waiting for other processes.
    """

    wall: float = 0.0
    cpu: float = 0.0

    def __sub__(self, other: Clock) -> Clock:
        return Clock(self.wall - other.wall, self.cpu - other.cpu)

    def __truediv__(self, count: int) -> Clock:
        return Clock(self.wall / count, self.cpu / count)


@dataclass
class Times:
    """Calls, and milliseconds on the host and on the GPU; totals of all profiled steps."""

    calls: int = 0
    host_ms: float = 0.0
    device_ms: float = 0.0


@dataclass(frozen=True)
class StepTimes:
    """Times of the profiled steps.

    Attributes:
        steps: the number of profiled steps.
        total: the whole steps.
        parts: the parts of a step that occur, and what is in none of them.
        operators: torch's operators, without the operators that they call, the longest first.
        has_device: whether anything ran on a GPU.
    """

    steps: int
    total: Times
    parts: dict[str, Times] = field(default_factory=dict)
    operators: dict[str, Times] = field(default_factory=dict)
    has_device: bool = False


def step_times(events: Iterable[Any], steps: int) -> StepTimes:
    """Return where the time of the profiled steps went.

    The host's time is the duration of the labels. A GPU works later than the operators that launch
    its kernels, and the backward pass launches them from another thread: a kernel belongs to the
    part of the step during which it was launched.

    Args:
        events: of ``torch.profiler.profile.events()``.
        steps: the number of profiled steps.
    """
    on_host = [event for event in events if event.device_type.name == "CPU"]
    labels = [event for event in on_host if event.name in PARTS]
    total, parts, operators = Times(), {name: Times() for name in PARTS}, dict[str, Times]()
    for event in on_host:
        if event.name.startswith(STEP):
            _add(total, event.time_range.elapsed_us())
        elif event.name in PARTS:
            _add(parts[event.name], event.time_range.elapsed_us())
        elif not event.is_user_annotation:
            times = operators.setdefault(event.name, Times())
            _add(times, event.self_cpu_time_total, event.self_device_time_total)
        on_device = sum(kernel.duration for kernel in event.kernels) / 1e3
        if on_device:
            total.device_ms += on_device
            if label := _label_at(event.time_range.start, labels):
                parts[label].device_ms += on_device
    parts = {name: times for name, times in parts.items() if times.calls}
    parts[OTHER] = Times(
        steps,
        total.host_ms - sum(times.host_ms for times in parts.values()),
        total.device_ms - sum(times.device_ms for times in parts.values()),
    )
    has_device = total.device_ms > 0

    def weight(item: tuple[str, Times]) -> float:
        return item[1].device_ms if has_device else item[1].host_ms

    longest = dict(sorted(operators.items(), key=weight, reverse=True)[:OPERATORS])
    return StepTimes(steps, total, parts, longest, has_device)


def format_profile(
    name: str,
    about: Iterable[str],
    times: StepTimes,
    batch_size: int,
    step: Clock | None,
    epoch_steps: int,
    val_images: int,
    validation: Clock,
) -> str:
    """Return the profile as a Markdown document.

    Args:
        name: name of the training run.
        about: what was profiled; a line each.
        times: of the profiled steps.
        batch_size: images per step.
        step: time of a step without the profiler; None: there was none.
        epoch_steps: steps of an epoch.
        val_images: number of images in val.
        validation: time of the validation that ends an epoch.
    """
    lines = [f"# Profile of {name}", "", *(f"- {line}" for line in about)]
    profiled = times.total.host_ms / times.steps
    lines += [f"- {times.steps} steps with the profiler: {profiled:.1f} ms per step"]
    if step is not None:
        lines += [
            f"- without it: {1e3 * step.wall:.1f} ms per step, of which {1e3 * step.cpu:.1f} ms of "
            f"CPU time; {batch_size / step.wall:,.0f} images per second"
        ]
    header = ["part of a step", *_columns(times)]
    rows = [[part, *_cells(each, times)] for part, each in times.parts.items()]
    lines += ["", *_table(header, [*rows, ["**step**", *_cells(times.total, times)]])]

    if step is not None:
        lines += ["", *_epoch_table(step, epoch_steps, val_images, validation)]

    header = ["operator, without what it calls", "calls per step", *_columns(times)]
    rows = [
        [f"`{operator}`", f"{each.calls / times.steps:.0f}", *_cells(each, times)]
        for operator, each in times.operators.items()
    ]
    return "\n".join([*lines, "", *_table(header, rows), ""])


def _add(times: Times, host_us: float, device_us: float = 0.0) -> None:
    times.calls += 1
    times.host_ms += host_us / 1e3
    times.device_ms += device_us / 1e3


def _label_at(moment: float, labels: Iterable[Any]) -> str | None:
    """Return the label that a moment falls into; labels do not overlap."""
    for label in labels:
        if label.time_range.start <= moment <= label.time_range.end:
            name: str = label.name
            return name
    return None


def _epoch_table(step: Clock, steps: int, val_images: int, validation: Clock) -> list[str]:
    training = Clock(steps * step.wall, steps * step.cpu)
    whole = training.wall + validation.wall
    rows = [
        [part, f"{time.wall:.2f}", f"{time.wall / whole:.1%}", f"{time.cpu:.2f}"]
        for part, time in (
            (f"{steps} steps", training),
            (f"validation on {val_images:,} images", validation),
        )
    ]
    return _table(["part of an epoch", "s", "share", "CPU s"], rows)


def _columns(times: StepTimes) -> list[str]:
    if times.has_device:
        return ["CPU ms per step", "share", "GPU ms per step", "share"]
    return ["ms per step", "share"]


def _cells(each: Times, times: StepTimes) -> list[str]:
    cells = [f"{each.host_ms / times.steps:.2f}", f"{each.host_ms / times.total.host_ms:.1%}"]
    if times.has_device:
        cells += [f"{each.device_ms / times.steps:.2f}"]
        cells += [f"{each.device_ms / times.total.device_ms:.1%}"]
    return cells


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Return a Markdown table whose columns, except the first, are numbers."""
    rule = ["---", *["---:"] * (len(header) - 1)]
    return [f"| {' | '.join(cells)} |" for cells in (header, rule, *rows)]
