"""The table of jobs: dvc.yaml, resolved with params.yaml in milliseconds.

DVC's own resolver needs seconds for large studies and half a second to load, which every job would
pay. This one knows the part of the format that dvc.yaml uses (``${...}``, ``matrix``, ``foreach``);
a test holds it to DVC's.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from carbench.errors import CarbenchError
from carbench.params.base import lookup, read_yaml

DEFINITION = Path("dvc.yaml")
PARAMS = Path("params.yaml")
EXPRESSION = re.compile(r"\$\{\s*([^}]+?)\s*\}")


@dataclass(frozen=True)
class JobSpec:
    """One job as dvc.yaml defines it; paths are relative to the repository, POSIX style.

    ``cached`` are those of ``outs`` that lie in DVC's cache; git keeps the others.
    """

    name: str
    stage: str
    command: str
    deps: tuple[str, ...]
    params: tuple[str, ...]
    outs: tuple[str, ...]
    cached: frozenset[str]


def read_jobs(root: Path = Path()) -> dict[str, JobSpec]:
    """Return all jobs of the study in ``root`` by name (``train@resnet-0``), as dvc.yaml has them.

    Raises:
        CarbenchError: dvc.yaml or params.yaml cannot be read, or one names a key that is not in
            the other.
    """
    definition = read_yaml(root / DEFINITION)
    params = read_yaml(root / PARAMS)
    jobs = {}
    for stage, body in lookup(definition, "stages", root / DEFINITION).items():
        for suffix, values, template in _instances(stage, body, params):
            name = f"{stage}@{suffix}" if suffix else stage
            jobs[name] = _resolve(name, stage, template, values)
    return jobs


def _instances(
    stage: str, body: dict[str, Any], params: dict[str, Any]
) -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
    """Suffix, context and template of every job of a stage."""
    if "matrix" in body:
        axes = {name: _items(values, params) for name, values in body["matrix"].items()}
        for point in product(*axes.values()):
            item = dict(zip(axes, point, strict=True))
            yield "-".join(map(str, point)), params | {"item": item}, body
    elif "foreach" in body:
        each = _items_or_mapping(body["foreach"], params)
        pairs = each.items() if isinstance(each, dict) else ((item, item) for item in each)
        for key, item in pairs:
            yield str(key), params | {"key": key, "item": item}, body["do"]
    else:
        yield "", params, body


def _items(values: Any, params: dict[str, Any]) -> list[Any]:
    return list(_items_or_mapping(values, params))


def _items_or_mapping(values: Any, params: dict[str, Any]) -> Any:
    whole = EXPRESSION.fullmatch(values) if isinstance(values, str) else None
    return lookup(params, whole[1], PARAMS) if whole else values


def _resolve(name: str, stage: str, template: dict[str, Any], values: dict[str, Any]) -> JobSpec:
    def text(raw: str) -> str:
        return EXPRESSION.sub(lambda found: str(lookup(values, found[1], PARAMS)), raw)

    outs, cached = [], set()
    for entry in [*template.get("outs", []), *template.get("metrics", [])]:
        raw, flags = next(iter(entry.items())) if isinstance(entry, dict) else (entry, {})
        path = text(raw)
        outs.append(path)
        if flags.get("cache", True):
            cached.add(path)
    names = template.get("params", [])
    if not all(isinstance(key, str) for key in names):
        raise CarbenchError(
            DEFINITION,
            key=f"stages.{stage}.params",
            found="parameters of another file",
            expected="keys of params.yaml",
            fix="keep every choice in params.yaml",
        )
    return JobSpec(
        name,
        stage,
        text(template["cmd"]),
        tuple(text(path) for path in template.get("deps", [])),
        tuple(text(key) for key in names),
        tuple(outs),
        frozenset(cached),
    )
