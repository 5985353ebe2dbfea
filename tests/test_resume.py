"""A killed training run resumes and gives bit-identical results."""

from __future__ import annotations

import json
import logging
import multiprocessing
import random
import runpy
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from carbench.core import stage
from carbench.params.train import TrainParams
from carbench.training import checkpoint as checkpoints
from carbench.training import loop
from carbench.training.loop import TrainingResult, fit
from carbench.training.tune_table import COLUMNS
from conftest import ROOT
from toy import CLASSES, NORMALIZE, images, recipe

EPOCHS = 5
STEPS = 3  # per epoch
ALL_PARTS = {"epochs": EPOCHS, "mixup": 0.4, "ema": 0.9, "warmup_epochs": 1.5, "patience": 2}
RECIPES = {
    "adamw": recipe(**ALL_PARTS),
    "sgd": recipe(**ALL_PARTS, optimizer="sgd", lr=0.05),
    # The optimiser knows only the head when the first epoch ends.
    "frozen": recipe(epochs=EPOCHS, freeze_epochs=1, select="val_loss"),
}
NEVER = 1e9


class StoppedError(Exception):
    """What a kill is played by inside a process."""


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def trained(made: Path, params: TrainParams, checkpoint: Path | None) -> TrainingResult:
    torch.manual_seed(0)
    model = timm.create_model("test_resnet", num_classes=len(CLASSES), drop_rate=0.3)
    model = model.to(memory_format=torch.channels_last)
    return fit(model, images(made, "train"), images(made, "val"), NORMALIZE, params, 0, checkpoint)


def assert_same_bits(one: TrainingResult, other: TrainingResult) -> None:
    assert one.history == other.history
    assert one.best == other.best
    assert [row is one.best for row in one.history].count(True) == 1
    assert one.val_logits.numpy().tobytes() == other.val_logits.numpy().tobytes()
    assert list(one.tensors) == list(other.tensors)
    for name, tensor in one.tensors.items():
        assert tensor.numpy().tobytes() == other.tensors[name].numpy().tobytes(), name


@pytest.fixture(scope="module")
def undisturbed(made: Path, one_thread: None) -> dict[str, TrainingResult]:
    return {name: trained(made, params, None) for name, params in RECIPES.items()}


def stop_at(step: int, patch: pytest.MonkeyPatch) -> None:
    """Let a training stop in its ``step``-th step from now."""
    left = iter(range(step - 1))
    real = loop.Trainer.step

    def count(self: Any, *arguments: Any) -> torch.Tensor:
        if next(left, None) is None:
            raise StoppedError
        return real(self, *arguments)

    patch.setattr(loop.Trainer, "step", count)


@pytest.mark.slow
@pytest.mark.parametrize("name", RECIPES)
@settings(
    max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    stops=st.lists(st.integers(1, EPOCHS * STEPS), min_size=1, max_size=4),
    spacing=st.sampled_from([0.0, NEVER]),
)
def test_a_run_stopped_at_any_step_gives_the_same_bits(
    made: Path,
    undisturbed: dict[str, TrainingResult],
    tmp_path_factory: pytest.TempPathFactory,
    name: str,
    stops: list[int],
    spacing: float,
) -> None:
    checkpoint = tmp_path_factory.mktemp("scratch") / "new/training.pt"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoints, "MIN_SAVE_INTERVAL", spacing)
        done, expected = 0, []
        for step in stops:
            with pytest.MonkeyPatch.context() as stopping, pytest.raises(StoppedError):
                stop_at(step, stopping)
                trained(made, RECIPES[name], checkpoint)
                raise StoppedError  # it was over before
            epochs = min((step - 1) // STEPS, 1 if spacing else EPOCHS)
            done = min(done + epochs, len(undisturbed[name].history))
            expected.append(done)
        end = trained(made, RECIPES[name], checkpoint)
    assert_same_bits(end, undisturbed[name])
    if spacing == 0:
        # A run that stopped in its first epoch leaves the checkpoint as it was.
        assert end.resumed_after[-1:] == [done for done in expected[-1:] if done]
        assert end.seconds_before > 0 or not done


@pytest.mark.parametrize("after", range(1, EPOCHS))
def test_a_run_resumes_after_the_saved_epoch(
    made: Path,
    undisturbed: dict[str, TrainingResult],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    after: int,
) -> None:
    monkeypatch.setattr(checkpoints, "MIN_SAVE_INTERVAL", 0.0)
    checkpoint = tmp_path / "training.pt"
    params = RECIPES["frozen"]
    with pytest.MonkeyPatch.context() as stopping, pytest.raises(StoppedError):
        stop_at(after * STEPS + 1, stopping)
        trained(made, params, checkpoint)
    caplog.clear()
    with caplog.at_level(logging.INFO, "carbench"):
        end = trained(made, params, checkpoint)
    assert_same_bits(end, undisturbed["frozen"])
    assert end.resumed_after == [after]
    assert caplog.messages[0] == f"resuming after epoch {after}"
    assert len(caplog.messages) == 1 + EPOCHS - after
    assert list(tmp_path.iterdir()) == [checkpoint]


def test_a_completed_run_is_not_repeated(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Be it at its last epoch or because patience was at its end."""
    monkeypatch.setattr(checkpoints, "MIN_SAVE_INTERVAL", NEVER)
    slow = recipe(epochs=8, patience=1, lr=1e-12)  # nothing gets better
    for name, params, epochs in (("all", RECIPES["frozen"], EPOCHS), ("patience", slow, 2)):
        first = trained(made, params, tmp_path / name)
        assert len(first.history) == epochs
        with pytest.MonkeyPatch.context() as patch:
            stop_at(1, patch)
            assert_same_bits(trained(made, params, tmp_path / name), first)


def change_a_byte(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


@pytest.mark.slow
@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[:-100],
        lambda content: content[:7],
        lambda content: b"",
        change_a_byte,
    ],
    ids=["truncated", "stump", "empty", "changed"],
)
def test_a_damaged_checkpoint_is_ignored(
    made: Path,
    undisturbed: dict[str, TrainingResult],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    damage: Callable[[bytes], bytes],
) -> None:
    checkpoint = tmp_path / "training.pt"
    trained(made, RECIPES["frozen"], checkpoint)
    checkpoint.write_bytes(damage(checkpoint.read_bytes()))
    assert_ignored(made, checkpoint, undisturbed["frozen"], caplog)


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes", [{"lr": 0.001}, {"optimizer": "sgd"}, {"epochs": 2}, {"ema": 0.5}], ids=str
)
def test_a_checkpoint_of_another_run_is_ignored(
    made: Path,
    undisturbed: dict[str, TrainingResult],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    changes: dict[str, Any],
) -> None:
    checkpoint = tmp_path / "training.pt"
    other = RECIPES["frozen"].model_dump() | changes
    trained(made, TrainParams.model_validate(other), checkpoint)
    assert_ignored(made, checkpoint, undisturbed["frozen"], caplog)


def assert_ignored(
    made: Path, checkpoint: Path, expected: TrainingResult, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.clear()
    end = trained(made, RECIPES["frozen"], checkpoint)
    assert_same_bits(end, expected)
    assert end.resumed_after == []
    assert [record.levelname for record in caplog.records].count("WARNING") == 1
    assert f"{checkpoint} is ignored, training starts again" in caplog.text


def test_a_failed_save_does_not_stop_training(
    made: Path,
    undisturbed: dict[str, TrainingResult],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    (tmp_path / "file").touch()
    end = trained(made, RECIPES["frozen"], tmp_path / "file/training.pt")
    assert_same_bits(end, undisturbed["frozen"])
    assert "no checkpoint after epoch 1: " in caplog.text


def test_saves_take_a_small_fraction_of_the_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of epochs that take as long as a save, one in about twenty is saved: and the last."""
    now, saved = 0.0, []

    def write(path: Path, document: dict[str, Any]) -> None:
        nonlocal now
        now += 1.0
        saved.append(document["epoch"])

    monkeypatch.setattr(checkpoints.time, "perf_counter", lambda: now)
    monkeypatch.setattr(checkpoints, "_write", write)
    kept = checkpoints.Checkpoint(tmp_path / "training.pt", {})
    for epoch in range(1, 51):
        now += 1.0
        kept.save(epoch, {}, always=epoch == 50)
    assert saved == [1, 21, 41, 50]


# Real kills.


def train_in_a_process(made: Path, name: str, checkpoint: Path, result: Path) -> None:
    torch.set_num_threads(1)
    checkpoints.MIN_SAVE_INTERVAL = 0.0
    torch.save(trained(made, RECIPES[name], checkpoint), result)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["adamw", "sgd"])
def test_a_run_killed_at_random_moments_gives_the_same_bits(
    made: Path, undisturbed: dict[str, TrainingResult], tmp_path: Path, name: str
) -> None:
    context = multiprocessing.get_context("forkserver")  # loads torch once for all processes
    context.set_forkserver_preload(["toy", "timm"])
    checkpoint, result = tmp_path / "scratch/training.pt", tmp_path / "result.pt"
    rng = random.Random()
    runs = 0
    while True:
        arguments = (made, name, checkpoint, result)
        process = context.Process(target=train_in_a_process, args=arguments)
        process.start()
        # Longer from run to run, so that the slowest machine comes to an end, too.
        process.join(rng.uniform(0, 0.2) * 1.2**runs)
        runs += 1
        if not process.is_alive():
            break
        process.kill()
        process.join()
        result.unlink(missing_ok=True)
    assert process.exitcode == 0
    end = torch.load(result, weights_only=False)
    assert_same_bits(end, undisturbed[name])
    assert len(end.resumed_after) < runs
    assert end.resumed_after == sorted(end.resumed_after)


# The stages themselves.


def run_stage(name: str, made: Path, params: Path, place: Path | None, *options: object) -> object:
    """Run a stage's script in this process and return its exit status."""

    class Scratched(stage.Stage):
        @property
        def scratch(self) -> Path | None:
            return place

    line = ["--params", params, "--backbone", "resnet", "--pack", made]
    line += ["--split", made / "split.csv", "--weights", made / "start.safetensors", *options]
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as ended:
        patch.setattr(sys, "argv", [f"{name}.py", *map(str, line)])
        patch.setattr(stage, "Stage", Scratched)
        runpy.run_path(str(ROOT / f"scripts/{name}.py"), run_name="__main__")
    return ended.value.code


def interrupt(after: int, patch: pytest.MonkeyPatch) -> None:
    """Let the epoch after so many epochs be interrupted."""
    epochs = iter(range(after))
    real = loop.Trainer.train_epoch

    def count(self: Any, epoch: int) -> tuple[float, float]:
        if next(epochs, None) is None:
            raise KeyboardInterrupt
        return real(self, epoch)

    patch.setattr(loop.Trainer, "train_epoch", count)


def test_stage_train_resumes_with_the_same_bytes(
    made: Path, study: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoints, "MIN_SAVE_INTERVAL", 0.0)
    params = study({"train.epochs": 4, "train.ema": 0.9, "train.augment.mixup": 0.4})
    tuned = tmp_path / "tune.csv"
    tuned.write_text(",".join(COLUMNS) + "\n")

    def run(name: str, scratch: Path | None) -> object:
        options = ("--seed", 0, "--tune", tuned, "--output", tmp_path / name)
        return run_stage("train", made, params, scratch, *options)

    scratch = tmp_path / "scratch"
    for epochs in (1, 2):
        with pytest.MonkeyPatch.context() as patch:
            interrupt(epochs, patch)
            assert run("killed", scratch) == 130
    assert run("killed", scratch) == 0
    assert run("calm", None) == 0
    for name in ("model.safetensors", "val.csv", "history.csv"):
        ours, theirs = ((tmp_path / run / name).read_bytes() for run in ("killed", "calm"))
        assert ours == theirs, name
    records = [
        json.loads((tmp_path / run / "provenance.json").read_text()) for run in ("killed", "calm")
    ]
    assert [record["resumed_after"] for record in records] == [[1, 3], []]


def test_tune_does_not_repeat_completed_trials(
    made: Path, study: Callable[..., Path], tmp_path: Path
) -> None:
    """A rate that diverged is tried again, the others go on or are done."""
    rates = [0.002, 1.0e30, 0.006]
    changes = {"train.clip_norm": 1.0e30, "train.epochs": 4, "tune.epochs": 2}
    params = study(changes | {"tune.learning_rates": rates})

    def run(name: str, scratch: Path | None) -> object:
        return run_stage("tune", made, params, scratch, "--output", tmp_path / name)

    assert run("calm.csv", None) == 0
    with pytest.MonkeyPatch.context() as patch:
        interrupt(4, patch)  # two epochs of the first, one or two that diverge, the rest
        assert run("killed.csv", tmp_path / "scratch") == 130
    real = loop.Trainer.train_epoch
    trained_at = []

    def note(self: Any, epoch: int) -> tuple[float, float]:
        trained_at.append((self._params.lr, epoch))
        return real(self, epoch)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop.Trainer, "train_epoch", note)
        assert run("killed.csv", tmp_path / "scratch") == 0
    assert (tmp_path / "killed.csv").read_bytes() == (tmp_path / "calm.csv").read_bytes()
    assert 0.002 not in {rate for rate, _ in trained_at}
    assert trained_at[-1] == (0.006, 1)
