"""Each key of the recipe has its effect, on a small model and data set."""

from __future__ import annotations

import json
import runpy
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax
from timm.utils.model_ema import ModelEmaV3
from torch import nn

from carbench.core.errors import CarbenchError
from carbench.core.tables import read_table
from carbench.data.loading.augment import draw_mixup, mixup
from carbench.models.backbones import create_model
from carbench.models.heads import classifier_modules
from carbench.models.model_file import read_metadata
from carbench.models.temperature import fit_temperature
from carbench.params.train import TrainParams
from carbench.params.tune import TuneParams
from carbench.training import loop, tune_table
from carbench.training.learning_rate_search import trial_recipe
from carbench.training.loop import Epoch, TrainingResult, fit
from carbench.training.optim import MovingAverage, create_optimizer, set_learning_rate
from conftest import ROOT, run_script
from toy import CLASSES, COUNT, NORMALIZE, images, recipe


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Small steps are faster with one thread, also with other tests running."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def trained(
    made: Path, params: TrainParams
) -> tuple[nn.Module, dict[str, torch.Tensor], TrainingResult]:
    """Return the model after its last epoch, its initial tensors and the result."""
    torch.manual_seed(0)
    model = create_model("test_resnet", len(CLASSES), 32)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    parts = images(made, "train"), images(made, "val")
    return model, before, fit(model, *parts, NORMALIZE, params, 0)


def changed(before: dict[str, torch.Tensor], after: dict[str, torch.Tensor]) -> set[str]:
    return {name for name in before if not torch.equal(after[name], before[name])}


def test_a_frozen_body_keeps_weights_and_statistics(
    made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[dict[str, torch.Tensor]] = []
    real = loop.predict_logits

    def spy(model: nn.Module, *arguments: Any) -> torch.Tensor:
        seen.append({name: tensor.clone() for name, tensor in model.state_dict().items()})
        return real(model, *arguments)

    monkeypatch.setattr(loop, "predict_logits", spy)
    _, start, _ = trained(made, recipe(epochs=2, freeze_epochs=1))
    first, second = seen
    head = {"fc.weight", "fc.bias"}
    assert changed(start, first) == head
    learnt = changed(first, second)
    assert learnt > head
    assert any("running_mean" in name for name in learnt)


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_the_learning_rate_of_the_body_is_scaled(optimizer: str) -> None:
    model = create_model("test_resnet", 3, 32)
    params = recipe(backbone_lr_scale=0.1, optimizer=optimizer)
    made = create_optimizer(model, params)
    set_learning_rate(made, 0.5)
    head = {id(each) for module in classifier_modules(model) for each in module.parameters()}
    rates = {id(each): group["lr"] for group in made.param_groups for each in group["params"]}
    assert set(rates) == {id(each) for each in model.parameters()}
    for name, each in model.named_parameters():
        assert rates[id(each)] == pytest.approx(0.5 if name.startswith("fc.") else 0.05), name
        assert (id(each) in head) == name.startswith("fc.")
    for group in made.param_groups:
        assert {each.ndim > 1 for each in group["params"]} == {group["weight_decay"] > 0}


def test_a_distilled_model_has_two_heads() -> None:
    assert len(classifier_modules(create_model("deit_tiny_distilled_patch16_224", 3, 32))) == 2


def test_labels_are_mixed_like_the_images() -> None:
    """The pixel values are the class indices, so that mixed images show their weights."""
    labels = torch.arange(64) % 4
    targets = torch.nn.functional.one_hot(labels, 4).float()
    images = targets[:, :3, None, None].expand(64, 3, 5, 5).contiguous()

    def drawn(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
        rng = torch.Generator().manual_seed(seed)
        return mixup(images, targets, draw_mixup(64, 64, 0.5, rng))

    mixed, soft = drawn(1)
    assert torch.allclose(soft.sum(1), torch.ones(64))
    assert torch.allclose(mixed[:, :, 2, 2], soft[:, :3], atol=1e-6)
    own = soft[torch.arange(64), labels]
    assert 0.3 < own.mean() < 0.85  # half of each, and a little for partners of the same class
    assert torch.equal(drawn(1)[1], soft)
    assert not torch.equal(drawn(2)[1], soft)


def test_mixup_stays_within_a_batch() -> None:
    whole = draw_mixup(24, 8, 0.5, torch.Generator().manual_seed(0))
    batches = whole.split(8)
    assert [sorted(each.other.tolist()) for each in batches] == [list(range(8))] * 3
    assert len({tuple(each.other.tolist()) for each in batches}) == 3
    assert len(whole.weight.unique()) == 24
    unmixed = draw_mixup(3, 8, 0.0, torch.Generator())  # a set smaller than a batch
    images, targets = torch.rand(3, 3, 4, 4), torch.eye(3)
    for one, other in zip(mixup(images, targets, unmixed), (images, targets), strict=True):
        assert torch.equal(one, other)


def test_training_with_mixup_runs(made: Path) -> None:
    plain, mixed = (trained(made, recipe(mixup=alpha))[2] for alpha in (0.0, 1.0))
    assert plain.history[0].train_loss != mixed.history[0].train_loss
    assert trained(made, recipe(mixup=1.0))[2].history == mixed.history


def test_the_weight_average_is_evaluated_and_saved(made: Path) -> None:
    params = recipe(epochs=3, ema=0.9, batch_size=8, warmup_epochs=1.0)
    model, _, result = trained(made, params)
    plain, _, without = trained(made, recipe(epochs=3, batch_size=8, warmup_epochs=1.0))
    # The average does not affect the trained weights.
    assert not changed(plain.state_dict(), model.state_dict())
    losses = [[row.train_loss for row in each.history] for each in (result, without)]
    assert losses[0] == losses[1]
    assert result.best.val_loss != without.best.val_loss
    kept = create_model("test_resnet", len(CLASSES), 32)
    kept.load_state_dict(result.tensors)
    val = images(made, "val")
    logits = loop.predict_logits(kept, val.images, NORMALIZE, params.image_size, 8)
    loss = torch.nn.functional.cross_entropy(logits, val.labels).item()
    assert loss == pytest.approx(result.best.val_loss, rel=1e-4)


def test_the_weight_average_equals_that_of_timm() -> None:
    """Bit for bit, including buffers, during the warm-up and after resuming."""
    torch.manual_seed(0)
    model = create_model("test_efficientnet", 3, 32)
    ours, timms = MovingAverage(model, 0.9), ModelEmaV3(model, 0.9, use_warmup=True)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    for step in range(1, 6):
        model(torch.rand(4, 3, 32, 32)).square().sum().backward()
        optimizer.step()
        for average in (ours, timms):
            average.update(model, step=step)
        if step == 3:  # as after a kill: the tensors are filled, not replaced
            ours.module.load_state_dict(timms.module.state_dict())
            model.load_state_dict({name: each.clone() for name, each in model.state_dict().items()})
    expected = timms.module.state_dict()
    assert not changed(expected, ours.module.state_dict())
    assert changed(expected, model.state_dict())
    assert expected["bn1.num_batches_tracked"] == 5


def test_patience_stops_training_early(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    accuracies = iter([0.5, 0.6, 0.6, 0.55, 0.9, 0.9])

    def scripted(epoch: int, lr: float, loss: float, *_: Any) -> Epoch:
        return Epoch(epoch, lr, loss, 1.0, next(accuracies))

    monkeypatch.setattr(loop, "_evaluate", scripted)
    result = trained(made, recipe(epochs=6, patience=2))[2]
    assert [row.epoch for row in result.history] == [1, 2, 3, 4]
    assert result.best.epoch == 2


def logits_of(count: int, temperature: float) -> tuple[np.ndarray, np.ndarray]:
    """Return logits, and labels drawn from their probabilities at a temperature."""
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 3, (count, 5))
    chances = np.exp(logits / temperature)
    chances /= chances.sum(axis=1, keepdims=True)
    labels = (chances.cumsum(axis=1) < rng.random((count, 1))).sum(axis=1)
    return logits.astype(np.float32), labels


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_a_known_temperature_is_recovered(temperature: float) -> None:
    logits, labels = logits_of(20_000, temperature)
    found = fit_temperature(logits, labels)
    assert found == pytest.approx(temperature, rel=0.05)
    reference = minimize_scalar(
        lambda other: cross_entropy(logits / other, labels), bounds=(0.05, 20), method="bounded"
    )
    assert found == pytest.approx(reference.x, rel=1e-4)
    assert cross_entropy(logits / found, labels) <= reference.fun + 1e-9


def cross_entropy(logits: np.ndarray, labels: np.ndarray) -> float:
    chances = log_softmax(logits.astype(np.float64), axis=1)
    return float(-chances[np.arange(len(labels)), labels].mean())


def test_a_few_correct_images_give_a_finite_temperature() -> None:
    logits = np.eye(3, dtype=np.float32)
    assert 0.05 <= fit_temperature(logits, np.arange(3)) < 0.06


# The stages themselves.


def arguments(made: Path, params: Path) -> list[object]:
    return [
        *("--params", params, "--backbone", "resnet", "--pack", made),
        *("--split", made / "split.csv", "--weights", made / "start.safetensors"),
    ]


@pytest.mark.slow
def test_training_uses_the_tuned_learning_rate(
    made: Path, study: Callable[..., Path], tmp_path: Path
) -> None:
    """A rate that diverges is rejected; train uses the other one and writes the val results."""
    params = study({"tune.learning_rates": [1.0e30, 0.004], "train.clip_norm": 1.0e30})
    table = tmp_path / "tune/resnet.csv"
    done = run_script("tune", *arguments(made, params), "--output", table)
    assert done.returncode == 0, done.stderr
    out, tried = read_table(table)
    assert (out["chosen"], float(out["val_accuracy"]), float(out["val_loss"])) == (
        *("0", 0.0),
        float("inf"),
    )
    assert (float(tried["lr"]), tried["epoch"], tried["chosen"]) == (0.004, "1", "1")

    run = tmp_path / "run"
    options = ("--seed", 0, "--tune", table, "--output", run)
    done = run_script("train", *arguments(made, params), *options)
    assert done.returncode == 0, done.stderr
    assert json.loads((run / "provenance.json").read_text())["params"]["lr"] == 0.004
    about = read_metadata(run / "model.safetensors")
    rows = read_table(run / "val.csv")
    assert len(rows) == COUNT["val"]
    header = ["image", "class", "group", "predicted", "confidence", *(f"p:{c}" for c in CLASSES)]
    assert list(rows[0]) == header
    right = np.mean([row["class"] == row["predicted"] for row in rows])
    assert right == pytest.approx(about["val_accuracy"])
    chances = np.array([[float(row[f"p:{name}"]) for name in CLASSES] for row in rows])
    labels = np.array([CLASSES.index(row["class"]) for row in rows])
    assert fit_temperature(np.log(chances), labels) == pytest.approx(about["temperature"], rel=1e-2)

    params = study({"tune.learning_rates": [1.0e30, 1.0e29], "train.clip_norm": 1.0e30})
    done = run_script("tune", *arguments(made, params), "--output", tmp_path / "none.csv")
    assert done.returncode == 1
    assert "tune.learning_rates: found [1e+30, 1e+29]" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "none.csv").exists()


@pytest.fixture
def no_torch(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Importing torch is an error."""
    monkeypatch.setitem(sys.modules, "torch", None)
    yield


def test_without_learning_rates_torch_is_not_imported(
    made: Path,
    study: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    no_torch: None,
) -> None:
    table = tmp_path / "resnet.csv"
    line = [*arguments(made, study({"tune.learning_rates": []})), "--output", table]
    monkeypatch.setattr(sys, "argv", ["tune.py", *map(str, line)])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(ROOT / "scripts/tune.py"), run_name="__main__")
    assert ended.value.code == 0
    assert table.read_text() == ",".join(tune_table.COLUMNS) + "\n"
    assert tune_table.chosen_learning_rate(table) is None


def test_a_trial_is_a_short_training_run() -> None:
    budget = TuneParams(learning_rates=[0.1, 0.2], epochs=3, seed=0)
    short = trial_recipe(recipe(epochs=12, warmup_epochs=4.0, freeze_epochs=2), budget, 0.1)
    assert (short.lr, short.epochs, short.warmup_epochs, short.freeze_epochs) == (0.1, 3, 1.5, 1)
    budget = TuneParams(learning_rates=[0.1, 0.2], epochs=1, seed=0)
    assert trial_recipe(recipe(epochs=12, freeze_epochs=2), budget, 0.1).freeze_epochs == 0


def test_a_table_without_a_selected_rate_is_rejected(tmp_path: Path) -> None:
    path = tmp_path / "resnet.csv"
    path.write_text(",".join(tune_table.COLUMNS) + "\n0.1,1,0.5,1.0,0\n")
    with pytest.raises(CarbenchError, match="0 chosen learning rates"):
        tune_table.chosen_learning_rate(path)
