"""The live curve of a training run: complete, continuous, and without influence on the results."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import timm
import torch

from carbench.engines.job_folders import live_folder
from carbench.training import checkpoint as checkpoints
from carbench.training.live_curve import read_live_curve
from carbench.training.loop import Epoch, TrainingResult, fit
from conftest import Project
from test_resume import StoppedError, assert_same_bits, stop_at
from toy import CLASSES, NORMALIZE, images, recipe

EPOCHS = 4
STEPS = 3  # per epoch


def trained(
    made: Path, live: Path | None, checkpoint: Path | None = None, seed: int = 0
) -> TrainingResult:
    torch.manual_seed(seed)
    model = timm.create_model("test_resnet", num_classes=len(CLASSES), drop_rate=0.3)
    model = model.to(memory_format=torch.channels_last)
    params = recipe(epochs=EPOCHS, mixup=0.4)
    train, val = images(made, "train"), images(made, "val")
    return fit(model, train, val, NORMALIZE, params, seed, checkpoint, live)


def history_in(path: Path) -> list[Epoch]:
    return [Epoch(each.epoch, **each.metrics) for each in read_live_curve(path)]


def test_a_killed_and_resumed_run_has_one_continuous_curve(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also if it is killed some epochs after its last checkpoint, which it trains again."""
    undisturbed = trained(made, None)
    live, checkpoint = tmp_path / "new/training.jsonl", tmp_path / "training.pt"
    monkeypatch.setattr(checkpoints, "MIN_SAVE_INTERVAL", 1e9)  # only the first and the last epoch
    with pytest.MonkeyPatch.context() as stopping, pytest.raises(StoppedError):
        stop_at(3 * STEPS + 1, stopping)
        trained(made, live, checkpoint)
    assert history_in(live) == undisturbed.history[:3]
    first = read_live_curve(live)[0]
    with pytest.MonkeyPatch.context() as stopping, pytest.raises(StoppedError):
        stop_at(1, stopping)
        trained(made, live, checkpoint)
    assert read_live_curve(live) == [first]
    end = trained(made, live, checkpoint)
    assert end.resumed_after == [1]
    assert_same_bits(end, undisturbed)
    assert history_in(live) == end.history
    assert [each.epochs for each in read_live_curve(live)] == [EPOCHS] * EPOCHS
    times = [each.time for each in read_live_curve(live)]
    assert times == sorted(times)
    assert times[0] == first.time


def test_a_run_that_starts_again_starts_a_new_curve(made: Path, tmp_path: Path) -> None:
    live = tmp_path / "training.jsonl"
    trained(made, live)
    end = trained(made, live, seed=1)
    assert history_in(live) == end.history


def test_a_curve_that_cannot_be_written_does_not_harm_the_training(
    made: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    live = tmp_path / "file/training.jsonl"
    assert_same_bits(trained(made, live), trained(made, None))
    assert f"{live} is not up to date: " in caplog.text


@pytest.mark.parametrize("content", ["", '{"epoch": 1', "[]\n", '{"epoch": 1}\n', "\udcff"])
def test_a_damaged_curve_has_no_epochs(tmp_path: Path, content: str) -> None:
    path = tmp_path / "training.jsonl"
    path.write_bytes(content.encode("utf-8", "surrogateescape"))
    assert read_live_curve(path) == []


@pytest.mark.slow
def test_jobs_leave_their_curves_outside_of_results(smoke_run: Project) -> None:
    (record,) = (smoke_run.root / ".carbench/records/train@resnet-0").glob("*.json")
    folder = live_folder(smoke_run.root, "train@resnet-0", record.stem)
    lines = (smoke_run.root / "results/train/resnet/0/history.csv").read_text().splitlines()
    assert len(lines) == 3
    rows = [json.loads(line) for line in (folder / "training.jsonl").read_text().splitlines()]
    assert [f"{row['epoch']},{row['lr']},{row['train_loss']}" for row in rows] == [
        ",".join(line.split(",")[:3]) for line in lines[1:]
    ]
    trials = smoke_run.root.glob(".carbench/live/tune@resnet/*/trial-*.jsonl")
    assert sorted(path.name for path in trials) == ["trial-0.jsonl", "trial-1.jsonl"]
