"""What a prediction costs: of what is served, side by side, with intervals that hold."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from carbench.core.errors import CarbenchError
from carbench.core.tables import read_json, read_table, write_table
from carbench.cost.file_names import CONDITIONS, EXACT, MEASURED, MEMORY, ROUNDS
from carbench.cost.median_image import median_image
from carbench.cost.median_intervals import is_slower, median_interval
from carbench.data.split.table import read_split
from carbench.models.model_file import save_model
from carbench.models.timing import Configuration, time_interleaved
from carbench.params.study import check
from carbench.statistics.prediction_costs import read_costs
from conftest import Project, run_script
from costs import write_costs

CONFIGURATIONS = [
    Configuration(name, "onnx", 1, images, decoding=False)
    for name in ("small", "large")
    for images in (1, 4)
]


@given(st.integers(6, 60), st.sampled_from([0.8, 0.9, 0.95]))
@settings(max_examples=60, deadline=None)
def test_the_interval_of_a_median_is_the_narrowest_pair_of_order_statistics(
    count: int, confidence: float
) -> None:
    """Summed from the binomial: it covers as promised, and one step inwards would not."""
    median, low, high = median_interval([float(n) for n in range(count)], confidence)
    assert median == (count - 1) / 2
    first = int(low)  # values below the bound: the true median has at most so many on its left
    assert high == count - 1 - first

    def covered(first: int) -> float:
        return 1 - 2 * float(binom.cdf(first, count, 0.5))

    assert covered(first) >= confidence > covered(first + 1)


def test_of_too_few_rounds_nothing_is_known() -> None:
    assert median_interval([1.0, 2.0, 3.0], 0.95) == (2.0, 0.0, float("inf"))
    assert not is_slower([2.0] * 3, [1.0] * 3, 0.95)


def test_backbones_are_compared_within_rounds() -> None:
    """Where the machine is slower or faster for all, the paired ratio still tells; chance not."""
    rng = np.random.default_rng(0)
    disturbed = rng.lognormal(0, 1, 20)
    ours, theirs = 1.1 * disturbed, disturbed * rng.uniform(0.99, 1.01, 20)
    assert median_interval(ours.tolist(), 0.95)[1] < np.median(theirs)  # apart they overlap
    assert is_slower(ours.tolist(), theirs.tolist(), 0.95)
    assert not is_slower(theirs.tolist(), ours.tolist(), 0.95)
    assert not is_slower(disturbed.tolist(), rng.permutation(disturbed).tolist(), 0.95)


def test_all_take_a_turn_in_each_round_in_an_order_of_the_seed() -> None:
    def orders(seed: int) -> list[list[Configuration]]:
        calls: list[Configuration] = []
        runs = {each: (lambda each=each: calls.append(each)) for each in CONFIGURATIONS}
        turns = time_interleaved(runs, 8, seed)
        assert len(calls) == 4 + 8 * (2 * 6 + 2 * 2)  # once each; then warmed up and timed
        assert all(turn.ms > 0 for turn in turns)
        assert [(turn.round, turn.place) for turn in turns] == [
            (number, place) for number in range(8) for place in range(4)
        ]
        rounds = [turns[start : start + 4] for start in range(0, 32, 4)]
        return [[turn.configuration for turn in each] for each in rounds]

    found = orders(0)
    assert all(set(each) == set(CONFIGURATIONS) for each in found)
    assert len({tuple(each) for each in found}) > 1
    assert found == orders(0) != orders(1)


def test_latency_is_that_of_the_served_runtime(tmp_path: Path) -> None:
    """Not of torch, of other threads, of batches or with decoding, which have other times here."""
    write_costs(tmp_path / "cost", {"small": [2.0] * 6})
    for name in (MEASURED, ROUNDS):
        rows = read_table(tmp_path / "cost" / name)
        for row in rows:
            served = (row["runtime"], row["threads"], row["images"], row["decoding"])
            row["ms"] = "2" if served == ("onnx", "1", "1", "0") else "9"
        write_table(tmp_path / "cost" / name, list(rows[0]), rows)
    (cost,) = read_costs(tmp_path / "cost", ["small"]).values()
    assert cost.value("latency_ms") == 2
    assert cost.by_round == (2,) * 6
    assert cost.torch_ms.value == cost.end_to_end_ms.value == 9
    assert cost.runtime == "ONNX Runtime 1.2, CPU, 1 thread"
    with pytest.raises(CarbenchError, match=r"exact\.csv: found no row with backbone large"):
        read_costs(tmp_path / "cost", ["small", "large"])


def test_the_image_that_is_decoded_is_the_median_of_the_training_part(tmp_path: Path) -> None:
    sizes = {"a": (10, 10, 5), "b": (90, 90, 5), "c": (40, 20, 7), "d": (20, 40, 9), "e": (1, 1, 1)}
    manifest = [
        {"image": name, "format": "JPEG", "width": width, "height": height, "bytes": size}
        for name, (width, height, size) in sizes.items()
    ]
    write_table(tmp_path / "manifest.csv", list(manifest[0]), manifest)
    split = [
        {"image": name, "class": "k", "group": 0, "leaked": 0}
        | {"split": "test" if name == "e" else "train"}
        for name in sizes
    ]
    write_table(tmp_path / "split.csv", list(split[0]), split)
    example = median_image(tmp_path / "manifest.csv", read_split(tmp_path / "split.csv", 0))
    assert (example.image, example.width, example.height) == ("d", 20, 40)


def test_too_few_rounds_for_an_interval_are_refused(study: Callable[..., Path]) -> None:
    with pytest.raises(
        CarbenchError, match=r"cost: .*5 rounds are too few for an interval of 95 %"
    ):
        check(study({"cost.rounds": 5}))


@pytest.mark.slow
def test_what_is_timed_is_what_is_served(smoke_run: Project, tmp_path: Path) -> None:
    """The graph that cost makes before training and the exported one: the same operations on the
    same shapes, and the same answers once it has the trained weights."""
    import torch

    from carbench.cost import untrained_onnx
    from carbench.models.backbones import load_trained_model
    from carbench.models.onnx_classifier import OnnxModel
    from carbench.models.onnx_export import write_onnx

    results = smoke_run.root / "results"
    about = read_json(results / "export/model.json")
    shape = untrained_onnx.GraphShape(about["input"]["size"], 32, tuple(about["classes"]))
    untrained_onnx.write_graphs(about["backbone"], about["timm"], shape, tmp_path, int8=False)
    made = untrained_onnx.onnx_path(tmp_path, about["backbone"], int8=False)
    served = results / "export/model.onnx"
    assert operations(made) == operations(served)
    (row,) = (
        row for row in read_table(results / "cost" / EXACT) if row["backbone"] == about["backbone"]
    )
    assert int(row["onnx_bytes"]) == made.stat().st_size
    assert abs(made.stat().st_size - served.stat().st_size) < 1000

    checkpoint = results / f"train/{about['backbone']}/{about['seed']}/model.safetensors"
    trained, card = load_trained_model(checkpoint, torch.device("cpu"))
    deployable = untrained_onnx.build_deployable(about["backbone"], about["timm"], shape)
    deployable.model.load_state_dict(trained.state_dict())
    write_onnx(deployable, shape.side, card.classes, tmp_path / "trained.onnx")
    pixels = shape.random_images(5)
    ours, _ = OnnxModel(tmp_path / "trained.onnx", 1).predict(pixels)
    theirs, _ = OnnxModel(served, 1).predict(pixels)
    # All but the temperature, which is fitted after the training.
    tempered = theirs ** (about["temperature"] / untrained_onnx.TEMPERATURE)
    tempered /= tempered.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(ours, tempered, atol=1e-5)


def operations(path: Path) -> Counter[tuple[str, tuple[tuple[int, ...], ...]]]:
    """Operations of an ONNX file with the shapes of the weights that they read."""
    graph = onnx.load(path).graph
    shapes = {each.name: tuple(each.dims) for each in graph.initializer}
    return Counter(
        (node.op_type, tuple(shapes[name] for name in node.input if name in shapes))
        for node in graph.node
    )


@pytest.mark.slow
def test_the_stage_measures_all_runtimes_and_refuses_what_cannot_be_exported(
    smoke_run: Project, study: Callable[..., Path], tmp_path: Path
) -> None:
    results = smoke_run.root / "results"
    shutil.copytree(results / "weights", tmp_path / "weights")
    options = ["--weights", tmp_path / "weights", "--data", results / "data"]
    options += ["--split", results / "split/split.csv", "--output", tmp_path / "cost"]
    params = study({"cost.int8": True, "cost.threads": 64, "cost.batch_size": 4})
    done = run_script("cost", "--params", params, *options)
    assert done.returncode == 0, done.stderr
    assert "cost.threads is 64, but only" in done.stderr
    rows = read_table(tmp_path / "cost" / MEASURED)
    for name in ("resnet", "mobilenet"):
        kinds = {
            (row["runtime"], row["images"], row["decoding"])
            for row in rows
            if row["backbone"] == name and row["threads"] == "1"
        }
        for runtime in ("onnx", "onnx-int8"):
            assert {(runtime, "1", "0"), (runtime, "1", "1"), (runtime, "4", "0")} <= kinds
        assert {("torch", "1", "0"), ("torch", "4", "0")} <= kinds
    for row in rows:
        assert 0 < float(row["ms_low"]) <= float(row["ms"]) <= float(row["ms_high"])
        rate = 1000 * int(row["images"]) / float(row["ms"])
        assert float(row["images_per_s"]) == pytest.approx(rate, rel=1e-4)
    again, before = (read_table(folder / EXACT) for folder in (tmp_path / "cost", results / "cost"))
    assert [row | {"int8_bytes": ""} for row in again] == before
    assert all(int(row["int8_bytes"]) < int(row["onnx_bytes"]) for row in again)
    memory = read_table(tmp_path / "cost" / MEMORY)
    assert all(20 < float(row["peak_mb"]) < 400 for row in memory)
    assert read_json(tmp_path / "cost" / CONDITIONS)["versions"]["onnxruntime"]

    save_model(
        tmp_path / "weights/resnet.safetensors", {}, {"model": "test_vit", "start": "random"}
    )
    params = study({"train.image_size": 40})
    done = run_script("cost", "--params", params, *options)
    assert done.returncode == 1, done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert "train.image_size: found 40, at which test_vit (backbones.resnet.model)" in done.stderr


def test_of_alike_latencies_the_best_on_val_is_chosen(tmp_path: Path) -> None:
    from carbench.params.choose import ChooseParams
    from carbench.statistics.model_selection import choose, describe_choice
    from test_statistics import answers_of, said

    wrong = {"best": 0, "fast": 1, "faster": 2}
    answers = answers_of({name: [said(np.arange(400) >= count)] for name, count in wrong.items()})
    params = ChooseParams(
        deployment_mix="tested",
        **{"ties": "cheapest", "cost": "latency_ms", "margin": 0.02, "confidence": 0.95},
    )
    noise = np.array([1.0, 1.3, 0.8, 1.1, 0.9, 1.2, 1.05, 0.97, 1.4, 0.85])
    write_costs(
        tmp_path / "cost",
        {
            "best": (2 * noise).tolist(),
            "fast": (noise[::-1] * 1.02).tolist(),
            "faster": noise.tolist(),
        },
    )
    candidates = choose(answers, read_costs(tmp_path / "cost", list(wrong)), params)
    (chosen,) = (each.backbone for each in candidates if each.chosen)
    assert chosen == "fast"
    assert {each.backbone for each in candidates if each.cost_tied} == {"fast", "faster"}
    assert (
        "the best on val of fast, faster, whose costs do not differ significantly"
        in describe_choice(candidates, params)
    )
