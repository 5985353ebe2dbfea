"""A changed key or file makes exactly the jobs stale that the docs list, in both engines."""

from __future__ import annotations

import copy
import random
import re
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pytest

from carbench.engines.code_fingerprint import is_code
from carbench.engines.engine_jobs import (
    EngineJob,
    dvc_jobs,
    dvc_plan,
    snakemake_jobs,
    snakemake_plan,
)
from carbench.engines.sync import job_statuses, open_workspace
from conftest import ROOT, Project, copy_project, repeatable, set_key

pytestmark = pytest.mark.slow

# Another valid value of keys whose value cannot be scaled, incremented or negated.
OTHER = {
    "data.source": "kaggle",
    "split.method": "grouped",
    "backbones.resnet.model": "resnet18",
    "backbones.mobilenet.model": "mobilenetv3_small_100",
    "backbones.resnet.weights": {"file": "start.pth", "sha256": "0" * 64},
    "backbones.mobilenet.weights": {"file": "start.pth", "sha256": "0" * 64},
    "screen.candidates.tiny": ["test_resnet"],
    "screen.weights": "presets/none",
    "screen.limits.licenses": ["mit"],
    "screen.features.precision": "float32",
    "shortlist.prefer": "cheap",
    "tune.learning_rates": [0.001, 0.002],
    "split.repeats": 3,
    "choose.deployment_mix": "equal",
    "choose.ties": "best",
    "export.backbone": "resnet",
    "plot.style.palette": "deep",
    "plot.pareto.cost": "macs",
    "plot.recall.order": "name",
    "plot.curves.metric": "val_loss",
    "plot.reliability.show": "after",
    "plot.robustness.show": "drop",
    "plot.classes.order": "name",
    "plot.screening.cost": "parameters",
}

# Stages that read the results of all training runs.
LATE = {"choose", "calibrate", "aggregate", "report", "export"}


CURVE = {"learning_curve", "plot@learning_curve"}
OTHER_FIGURES = ("plot@classes", "plot@screening", "plot@learning_curve")


def leaves(params: dict[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every dotted key of a value that is not a mapping."""
    for key, value in params.items():
        if isinstance(value, dict) and value:
            yield from leaves(value, f"{above}{key}.")
        else:
            yield above + key, value


def other_value(key: str, value: Any) -> Any:
    if key in OTHER:
        return OTHER[key]
    if key.endswith(".device"):
        return "cuda"
    if value == {}:
        return {"weight_decay": 0.123}
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1
    if isinstance(value, float):
        return value * 0.9
    if isinstance(value, str):
        return value + " changed"
    raise AssertionError(f"no other value known for {key}: {value!r}")


def documented(key: str, names: set[str]) -> tuple[str, set[str]]:
    """Return the row of a key in the table of docs/parameters.md, and the jobs that it lists."""
    key = re.sub(r"^(backbones\.\w+\.train)\..*", r"\1", key)
    for line in (ROOT / "docs/parameters.md").read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        pattern = cells[0].strip("`")
        if len(cells) != 3 or not fnmatchcase(key, pattern.replace("NAME", "*")):
            continue
        if pattern.endswith(".train") and not re.fullmatch(r"backbones\.\w+\.train", key):
            continue
        own = re.fullmatch(re.escape(pattern).replace("NAME", r"(\w+)").replace(r"\*", ".*"), key)
        named = own[1] if own and own.groups() else ""
        tokens = f"{cells[1]} {cells[2]}".replace("NAME", named).split()
        jobs = {name for name in names for token in tokens if is_job(name, token)}
        return cells[0].replace("NAME", named), jobs
    raise AssertionError(f"docs/parameters.md does not say what {key} reruns")


def is_job(name: str, token: str) -> bool:
    if token == "figures":
        return name.startswith("plot@") and name not in OTHER_FIGURES
    return name == token or name.startswith((f"{token}@", f"{token}-"))


def plans(project: Project) -> tuple[set[str], set[str]]:
    return snakemake_plan(project.root), dvc_plan(project.root)


def stale(project: Project, jobs: dict[str, EngineJob]) -> set[str]:
    """Return the stale jobs and all jobs downstream of them.

    Both engines use this status. Their own plans, which take seconds each, are compared
    for a few of the changes below.
    """
    statuses = job_statuses(open_workspace(project.root))
    outdated = {name for name, status in statuses.items() if not status.up_to_date}
    return outdated | downstream(outdated, jobs)


def test_every_key_reruns_the_documented_jobs(smoke: Project) -> None:
    """Every key is a parameter of the listed jobs, and one key of each row is changed."""
    jobs = snakemake_jobs(smoke.root)
    assert plans(smoke) == (set(), set())
    before = smoke.params
    rows: set[str] = set()
    walked = 0
    shown = random.Random(0)
    for key, value in leaves(before):
        if key in ("seeds", "learning_curve.seeds", "learning_curve.fractions"):
            continue  # have tests of their own
        row, expected = documented(key, set(jobs))
        direct = {name for name, job in jobs.items() if depends(job.params, key)}
        assert direct | downstream(direct, jobs) == expected, key
        walked += 1
        if row in rows and key != "data.path":  # that one is a dependency itself
            continue
        rows.add(row)
        params = copy.deepcopy(before)
        if key == "data.path":
            set_key(params, "data.source", "folder")
            set_key(params, key, "presets")
        else:
            set_key(params, key, other_value(key, value))
        smoke.set_params(params)
        assert stale(smoke, jobs) == expected, key
        if shown.random() < 0.2:
            assert snakemake_plan(smoke.root) == expected, f"snakemake, {key}"
            assert dvc_plan(smoke.root) == expected, f"dvc, {key}"
    assert walked > 60
    assert len(rows) > 20


def depends(params: dict[str, Any], key: str) -> bool:
    """Return whether the parameters of a job include a key; a section includes all its keys."""
    return any(key == name or key.startswith(f"{name}.") for name in params)


def test_a_comment_reruns_nothing(smoke: Project) -> None:
    path = smoke.root / "params.yaml"
    path.write_text("# a remark\n" + path.read_text())
    assert plans(smoke) == (set(), set())


def figures_of_results(project: Project) -> set[str]:
    """All figures but those that the test images do not change."""
    return {name for name in snakemake_jobs(project.root) if is_job(name, "figures")}


def test_an_added_seed_trains_only_that_seed(smoke: Project) -> None:
    smoke.set_params(smoke.params | {"seeds": [0, 7]})
    expected = {
        f"{stage}@{name}-7" for stage in ("train", "evaluate") for name in ("resnet", "mobilenet")
    }
    figures = figures_of_results(smoke)
    assert plans(smoke) == ((expected | figures | LATE),) * 2


def test_an_added_fraction_trains_only_that_fraction(smoke: Project) -> None:
    params = smoke.params
    params["learning_curve"]["fractions"] = [0.25, 0.5]
    smoke.set_params(params)
    expected = {f"subset@{name}-0.25-0" for name in ("resnet", "mobilenet")}
    assert plans(smoke) == ((expected | CURVE | {"report"}),) * 2


def test_without_fractions_nothing_is_trained(smoke: Project) -> None:
    params = smoke.params
    params["learning_curve"]["fractions"] = []
    smoke.set_params(params)
    assert plans(smoke) == (CURVE | {"report"},) * 2
    assert not any(name.startswith("subset@") for name in dvc_jobs(smoke.root))


def test_an_added_backbone_trains_only_that_backbone(smoke: Project) -> None:
    params = smoke.params
    params["backbones"]["convnext"] = {"model": "test_convnext", "weights": "random", "train": {}}
    smoke.set_params(params)
    expected = {f"{stage}@convnext" for stage in ("weights", "tune")}
    expected |= {"train@convnext-0", "evaluate@convnext-0"}
    expected |= {"subset@convnext-0.5-0", *CURVE}
    figures = figures_of_results(smoke)
    assert plans(smoke) == ((expected | figures | LATE | {"cost"}),) * 2


def test_a_removed_backbone_trains_nothing(smoke: Project) -> None:
    params = smoke.params
    del params["backbones"]["mobilenet"]
    smoke.set_params(params)
    figures = figures_of_results(smoke)
    assert plans(smoke) == ((figures | LATE | CURVE | {"cost"}),) * 2


def test_edited_code_reruns_the_stages_that_list_it(smoke: Project) -> None:
    """And what follows them. Folders of the same stages are alike: a file of one is edited."""
    jobs, by_dvc = snakemake_jobs(smoke.root), dvc_jobs(smoke.root)
    users: dict[str, set[str]] = {}
    for name, job in by_dvc.items():
        for path in filter(is_code, job.inputs):
            users.setdefault(path, set()).add(name)
    alike = {frozenset(names): path for path, names in sorted(users.items())}
    shown = random.Random(0).sample(sorted(alike.values()), 4)
    for path in alike.values():
        place = smoke.root / path
        file = place if place.is_file() else max(place.rglob("*.py"))
        content = file.read_bytes()
        file.write_bytes(content + b"\nEDITED = True\n")
        edited = file.relative_to(smoke.root)
        places = {edited.as_posix(), *map(Path.as_posix, edited.parents)}
        direct = {name for name, job in by_dvc.items() if job.inputs & places}
        expected = direct | downstream(direct, jobs)
        assert stale(smoke, jobs) == expected, path
        if path in shown:
            assert snakemake_plan(smoke.root) == expected, f"snakemake, {path}"
            assert dvc_plan(smoke.root) == expected, f"dvc, {path}"
        file.write_bytes(content)
    assert plans(smoke) == (set(), set())


def test_after_an_edited_comment_outputs_are_restored(smoke_run: Project, tmp_path: Path) -> None:
    """In a module that every stage uses. DVC compares bytes and starts its stages."""
    smoke = copy_project(smoke_run, tmp_path / "study")
    before = repeatable(smoke)
    file = smoke.root / "src/carbench/core/tables.py"
    content = file.read_text()
    _, rest = content.split("\n", 1)
    file.write_text(f'"""Reworded."""\n{rest}# A comment.\n')
    assert snakemake_plan(smoke.root) == set()
    assert len(dvc_plan(smoke.root)) == len(dvc_jobs(smoke.root))
    done = smoke.run("dvc", "repro", "train")
    output = done.stdout + done.stderr
    assert output.count("outputs restored from the cache") >= 6
    smoke.run("carbench", "sync")
    assert plans(smoke) == (set(), set())
    assert repeatable(smoke) == before


def downstream(names: set[str], jobs: dict[str, Any]) -> set[str]:
    """Return the jobs downstream of the given jobs."""
    reached: set[str] = set()
    waiting = set(names)
    while waiting:
        written = set().union(*(jobs[name].outputs for name in waiting))
        waiting = {name for name, job in jobs.items() if job.inputs & written} - reached
        reached |= waiting
    return reached


def test_a_parameter_on_the_command_line_is_rejected(smoke: Project) -> None:
    done = smoke.run("snakemake", "-n", "--config", "train={epochs: 9}", check=False)
    assert done.returncode
    assert "set them in params.yaml" in done.stdout + done.stderr


def test_every_preset_is_documented() -> None:
    text = Path(ROOT / "docs/parameters.md").read_text()
    for preset in ROOT.glob("presets/*.yaml"):
        assert f"`{preset.name}`" in text
