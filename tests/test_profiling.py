"""A profile of a training run: complete, and without influence on its results."""

from __future__ import annotations

import gzip
import json
import logging
import multiprocessing
import re
import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import timm
import torch
from torch.autograd import DeviceType

from carbench.engines.job_folders import profile_folder
from carbench.training import checkpoint as checkpoints
from carbench.training import profiling
from carbench.training.loop import TrainingResult, fit
from carbench.training.profile_table import PARTS, step_times
from carbench.training.profiling import TABLE, TRACE
from conftest import Project, copy_project, repeatable
from test_resume import StoppedError, assert_same_bits, stop_at
from toy import CLASSES, NORMALIZE, images, recipe

STEPS = 12  # per epoch: fewer than wait, warm-up and profile would take
MANY_STEPS = 24
# As in the smoke study, except that a step has every part.
RECIPE = recipe(epochs=3, freeze_epochs=1, ema=0.9, mixup=0.4, batch_size=4)


def trained(
    made: Path, profile: Path | None, checkpoint: Path | None = None, **changes: Any
) -> TrainingResult:
    torch.manual_seed(0)
    model = timm.create_model("test_resnet", num_classes=len(CLASSES), drop_rate=0.3)
    params = RECIPE.model_copy(update=changes)
    train, val = images(made, "train"), images(made, "val")
    return fit(model, train, val, NORMALIZE, params, 0, checkpoint, profile=profile)


def events_of(folder: Path) -> list[dict[str, Any]]:
    with gzip.open(folder / TRACE, "rt") as file:
        events: list[dict[str, Any]] = json.load(file)["traceEvents"]
    return events


def rows_of(folder: Path) -> dict[str, list[str]]:
    """The cells of all tables, by their first cell."""
    lines = (folder / TABLE).read_text().splitlines()
    cells = [[cell.strip(" *`") for cell in line[1:-1].split("|")] for line in lines if "|" in line]
    return {first: rest for first, *rest in cells}


def test_a_profiled_run_has_the_same_bits(
    made: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """And the profile has its trace, and a table whose parts add up to the step."""
    folder = tmp_path / "new/train@resnet-0"
    with caplog.at_level(logging.INFO, "carbench"):
        assert_same_bits(trained(made, folder), trained(made, None))
    assert sum(f"profile of 10 steps: {folder / TABLE}" in line for line in caplog.messages) == 1
    assert sorted(path.name for path in folder.iterdir()) == [TABLE, TRACE]

    events = events_of(folder)
    steps = [event for event in events if event["name"].startswith("ProfilerStep#")]
    assert len({event["name"] for event in steps}) == 10
    for part in PARTS:
        spans = [event for event in events if event["name"] == part]
        assert len(spans) == 10, part

    rows = rows_of(folder)
    parts = [float(rows[part][0]) for part in (*PARTS, "other")]
    assert sum(parts) == pytest.approx(float(rows["step"][0]), abs=0.06)
    assert max(parts) in (float(rows["forward"][0]), float(rows["backward"][0]))
    assert int(rows["aten::convolution_backward"][0]) > 0


def test_an_epoch_that_is_long_enough_tells_the_speed_without_the_profiler(
    made: Path, tmp_path: Path
) -> None:
    trained(made, tmp_path, batch_size=2)
    text = (tmp_path / TABLE).read_text()
    assert re.search(r"without it: [\d.]+ ms per step, of which [\d.]+ ms of CPU time", text)
    rows = rows_of(tmp_path)
    epoch = [rows[f"{MANY_STEPS} steps"], rows["validation on 24 images"]]
    assert all(float(seconds) > 0 for seconds, _, _ in epoch)
    assert sum(float(share.rstrip("%")) for _, share, _ in epoch) == pytest.approx(100, abs=0.2)


def test_a_resumed_run_is_profiled_after_its_checkpoint(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that is killed during its profile leaves none."""
    monkeypatch.setattr(checkpoints, "MIN_SAVE_INTERVAL", 0.0)
    folder, checkpoint = tmp_path / "profile", tmp_path / "training.pt"
    with pytest.MonkeyPatch.context() as stopping, pytest.raises(StoppedError):
        stop_at(2 * STEPS - 3, stopping)
        trained(made, folder, checkpoint)
    assert not folder.exists()
    end = trained(made, folder, checkpoint)
    assert end.resumed_after == [1]
    assert_same_bits(end, trained(made, None))
    assert len(rows_of(folder)) > len(PARTS)


def test_a_checkpoint_fits_with_and_without_a_profile(made: Path, tmp_path: Path) -> None:
    checkpoint = tmp_path / "training.pt"
    first = trained(made, tmp_path / "profile", checkpoint)
    again = trained(made, None, checkpoint)
    assert again.resumed_after == [3]
    assert_same_bits(again, first)


def test_a_profile_that_cannot_be_written_does_not_harm_the_training(
    made: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    folder = tmp_path / "file/profile"
    assert_same_bits(trained(made, folder), trained(made, None))
    assert f"no profile in {folder}: " in caplog.text


def write_and_die(made: Path, folder: Path) -> None:
    """Train, and be killed when the trace has been written and the table has not."""

    def die(*arguments: Any) -> None:
        signal.raise_signal(signal.SIGKILL)

    torch.set_num_threads(1)
    profiling.move_into_place = die
    trained(made, folder)


def test_a_kill_leaves_no_incomplete_file(made: Path, tmp_path: Path) -> None:
    folder = tmp_path / "profile"
    process = multiprocessing.get_context("spawn").Process(
        target=write_and_die, args=(made, folder)
    )
    process.start()
    process.join(120)
    assert process.exitcode == -signal.SIGKILL
    assert not (folder / TABLE).exists()
    assert not (folder / TRACE).exists()
    trained(made, folder)
    assert sorted(path.name for path in folder.iterdir()) == [TABLE, TRACE]


def test_kernels_belong_to_the_part_that_launched_them() -> None:
    """A GPU runs them later, and the backward pass launches them from a thread of its own."""

    def event(name: str, start: float, end: float, kernel: float = 0.0, thread: int = 1) -> Any:
        is_label = name in PARTS or name.startswith("ProfilerStep")
        return SimpleNamespace(
            name=name,
            thread=thread,
            device_type=DeviceType.CPU,
            is_user_annotation=is_label,
            time_range=SimpleNamespace(start=start, end=end, elapsed_us=lambda: end - start),
            kernels=[SimpleNamespace(duration=kernel)] if kernel else [],
            self_cpu_time_total=end - start,
            self_device_time_total=kernel,
        )

    times = step_times(
        [
            event("ProfilerStep*", 0, 10_000),
            event("forward", 1000, 3000),
            event("aten::conv", 1500, 2000, kernel=6000),
            event("backward", 3000, 8000),
            event("aten::conv_backward", 4000, 5000, kernel=9000, thread=2),
            event("aten::zero_", 9000, 9500, kernel=500),
        ],
        1,
    )
    assert {name: (each.host_ms, each.device_ms) for name, each in times.parts.items()} == {
        "forward": (2.0, 6.0),
        "backward": (5.0, 9.0),
        "other": (3.0, 0.5),
    }
    assert times.total.device_ms == 15.5
    assert list(times.operators) == ["aten::conv_backward", "aten::conv", "aten::zero_"]


@pytest.mark.slow
def test_profiling_makes_nothing_stale(smoke_run: Project, tmp_path: Path) -> None:
    """Neither the parameter nor the command; a training run that does run has a profile."""
    study = copy_project(smoke_run, tmp_path / "study")
    folder = profile_folder(study.root, "train@resnet-0")
    before = repeatable(study)
    assert not folder.parent.exists()

    study.run("carbench", "profile", "train@resnet-0")
    assert {path.name for path in folder.iterdir()} == {TABLE, TRACE}
    assert repeatable(study) == before
    (folder / TABLE).unlink()

    params = study.params
    params["train"]["profile"] = True
    study.set_params(params)
    assert "Nothing to be done" in re.sub(r"\s+", " ", "".join(study.run("snakemake").stderr))
    assert "train" not in study.run("dvc", "status").stdout
    model = "results/train/resnet/0/model.safetensors"
    study.run("snakemake", "--cores", "1", "--resources", "gpu=1", "--forcerun", model, "--", model)
    assert {path.name for path in folder.iterdir()} == {TABLE, TRACE}
    assert repeatable(study) == before
