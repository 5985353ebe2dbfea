"""Results do not depend on the order of names and files, which fingerprints do not include."""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from carbench.core.stage import Stage
from carbench.engines.dvc_yaml import read_jobs
from conftest import ROOT, Project, active_environment

# Stages that read several backbones, pools or classes, and load neither torch nor images.
STAGES = ("choose", "calibrate", "aggregate", "learning_curve", "shortlist")


def reversed_names(value: Any) -> Any:
    """Return the same parameters with all mappings in reverse order."""
    if isinstance(value, dict):
        return {name: reversed_names(value[name]) for name in reversed(value)}
    return [reversed_names(each) for each in value] if isinstance(value, list) else value


@pytest.mark.slow
@pytest.mark.parametrize("stage", STAGES)
def test_results_do_not_depend_on_the_order_of_names_in_params(
    smoke_run: Project, tmp_path: Path, stage: str
) -> None:
    """Neither engine counts it as a change."""
    params = tmp_path / "params.yaml"
    params.write_text(yaml.safe_dump(reversed_names(smoke_run.params), sort_keys=False))
    job = read_jobs(smoke_run.root)[stage]
    arguments = job.command.split()[1:]
    where = arguments.index("--output") + 1
    made = tmp_path / "made" / arguments[where]
    arguments[where] = str(made)
    arguments[arguments.index("--log") + 1] = str(tmp_path / "log")
    done = subprocess.run(
        [sys.executable, *arguments, "--params", params],
        cwd=smoke_run.root,
        env=active_environment() | {"PYTHONHASHSEED": str(random.Random(stage).randrange(9999))},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    for path in job.outs:
        again = (tmp_path / "made" / path).read_bytes()
        assert again == (smoke_run.root / path).read_bytes(), path


def test_a_stage_reads_mappings_in_sorted_order(tmp_path: Path) -> None:
    params = yaml.safe_load((ROOT / "presets/sample.yaml").read_text())
    texts = set()
    for each in (params, reversed_names(params)):
        file = tmp_path / "params.yaml"
        file.write_text(yaml.safe_dump(each, sort_keys=False))
        stage = Stage(argparse.Namespace(params=file), None)
        assert stage.value("seeds") == params["seeds"]
        texts.add(json.dumps({name: stage.value(name) for name in sorted(params)}))
    assert len(texts) == 1


@pytest.mark.parametrize("cost", ["macs", "latency_ms"])
def test_ties_between_equal_backbones_are_broken_by_name(cost: str) -> None:
    from carbench.params.choose import ChooseParams
    from carbench.statistics.model_selection import choose
    from test_statistics import COST, answers_of, said

    params = ChooseParams(
        deployment_mix="tested", ties="cheapest", cost=cost, margin=0.02, confidence=0.95
    )
    right = np.arange(90) >= 7
    found = set()
    for names in permutations(["ant", "bee", "cat"]):
        answers = answers_of({name: [said(np.roll(right, len(name)))] * 3 for name in names})
        candidates = choose(answers, dict.fromkeys(names, COST), params, draws=1000)
        assert [each.backbone for each in candidates] == ["ant", "bee", "cat"]
        found.add(next(each.backbone for each in candidates if each.chosen))
    assert found == {"ant"}
