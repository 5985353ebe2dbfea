"""Benchmarks run, in small, and print all their rows."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
import timm
from safetensors.torch import save_file

from conftest import ROOT

SMALL = ["--source", "smoke", "--models", "test_resnet", "--batch", "8"]
ONE_SETTING = ["--workers", "0", "--threads", "1"]
ONE_RUN = ["--seeds", "1", "--epochs", "1"]


def rows(script: str, *options: str, common: Sequence[str] = SMALL) -> list[list[str]]:
    """The cells of the table that a benchmark prints, without its head."""
    done = subprocess.run(
        [sys.executable, f"benchmarks/{script}", *common, *options],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    table = [line.split("|")[1:-1] for line in done.stdout.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line] for line in table[2:]]


@pytest.mark.slow
def test_steps_are_compared_at_every_size() -> None:
    options = ["--sizes", "32", "48", "--steps", "2", "--rounds", "2", *ONE_SETTING]
    found = rows("step_cost.py", *options)
    systems = [(row[0], row[3].split()[0]) for row in found]
    both = [(size, system) for size in ("32", "48") for system in ("carbench", "timm")]
    assert list(dict.fromkeys(systems)) == both
    assert all((row[5] == "") == (row[3].split()[0] == "carbench") for row in found)


@pytest.mark.slow
def test_trainings_of_all_systems_are_compared() -> None:
    found = rows("training.py", "--sizes", "32", *ONE_SETTING, *ONE_RUN)
    assert [row[2].split()[0] for row in found] == ["carbench", "timm", "usual"]


@pytest.mark.slow
def test_fine_tuning_starts_both_from_the_same_file(tmp_path: Path) -> None:
    model = timm.create_model("test_resnet")
    save_file(model.state_dict(), tmp_path / "test_resnet.safetensors")
    start = ["--pretrained", str(tmp_path), "--preset", "presets/smoke.yaml", "--reach", "0"]
    found = rows(
        *("training.py", *start, "--sizes", "32", "--peer-epochs", "2"),
        *("--peer-lr", "1e-3", "1e-4", *ONE_SETTING, *ONE_RUN),
    )
    assert [row[2].split()[0] for row in found] == ["carbench", "timm"]
    assert "epochs 2" in found[1][2]
    assert all(float(row[8]) <= float(row[3]) for row in found)


@pytest.mark.slow
def test_each_part_of_a_large_data_set_is_measured_in_a_process_of_its_own() -> None:
    options = ["--images", "60", "900", "--search", "70", "--files", "40"]
    found = rows("large_tables.py", *options, common=())
    counts = [("hashes", "40"), ("search", "70")]
    counts += [(part, count) for count in ("60", "900") for part in ("start", "split")]
    assert sorted((part, count) for part, count, *_ in found) == sorted(counts)
    for row in found:
        cpu, wall, memory = map(float, row[2:])
        assert cpu >= 0 and wall >= 0 and memory < 500  # without the imports, torch among them
