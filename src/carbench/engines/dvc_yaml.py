"""The table of jobs: dvc.yaml, resolved with params.yaml in milliseconds.

DVC's own resolver needs seconds for large studies and half a second to load, which every job would
pay. This one knows the part of the format that most stages use (``${...}``, ``matrix``,
``foreach``); a test holds it to DVC's. Stages with anything else are left alone: DVC and Snakemake
run them as they define, and nothing is recorded of them.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from carbench.core.errors import CarbenchError
from carbench.core.params import lookup, read_yaml

DEFINITION = Path("dvc.yaml")
PARAMS = Path("params.yaml")
EXPRESSION = re.compile(r"\$\{\s*([^}]+?)\s*\}")
# The study's own scripts depend on this; they record what they make by themselves.
CORE = "src/carbench/core"
# Keys of a stage that make its results depend on more than its files, command and parameters.
UNKNOWN = ("wdir", "vars", "frozen", "always_changed")


@dataclass(frozen=True)
class JobSpec:
    """One job as dvc.yaml defines it; paths are relative to the repository, POSIX style.

    Attributes:
        name: ``train@resnet-0``.
        stage: ``train``.
        command: as DVC has it.
        deps: files and folders that it reads.
        params: keys of params.yaml, and ``FILE:KEY`` of others.
        outs: files and folders that it writes.
        cached: those of ``outs`` that lie in DVC's cache; git keeps the others.
    """

    name: str
    stage: str
    command: str
    deps: tuple[str, ...]
    params: tuple[str, ...]
    outs: tuple[str, ...]
    cached: frozenset[str]

    @property
    def records_itself(self) -> bool:
        """Whether its script records what it makes, and brings it back."""
        return CORE in self.deps and one_line(self.command).startswith("python scripts/")


@dataclass(frozen=True)
class Definition:
    """All that dvc.yaml says.

    Attributes:
        jobs: by name.
        unsupported_stages: stages of which carbench records nothing, with what they have in a few words.
    """

    jobs: Mapping[str, JobSpec]
    unsupported_stages: Mapping[str, str]


class UnsupportedStage(Exception):  # noqa: N818 - nothing is wrong
    """Raised for a stage that has something that this table does not know."""


def read_jobs(root: Path = Path()) -> Mapping[str, JobSpec]:
    """Return the jobs of the study in ``root`` by name; see :func:`read_definition`."""
    return read_definition(root).jobs


def read_definition(root: Path = Path()) -> Definition:
    """Return what dvc.yaml, with params.yaml, defines in ``root``.

    Raises:
        CarbenchError: dvc.yaml or params.yaml cannot be read, or one names a key that is not in
            the other.
    """
    definition = read_yaml(root / DEFINITION)
    params = read_yaml(root / PARAMS)
    stages = lookup(definition, "stages", root / DEFINITION)
    if not isinstance(stages, dict):
        raise CarbenchError(
            root / DEFINITION,
            key="stages",
            found=f"a {type(stages).__name__}",
            expected="stages by name",
            fix="correct it as `dvc stage list` says",
        )
    jobs: dict[str, JobSpec] = {}
    left: dict[str, str] = {}
    for stage, body in stages.items():
        try:
            jobs |= {job.name: job for job in _jobs_of(str(stage), body, params)}
        except UnsupportedStage as what:
            left[str(stage)] = str(what)
        except CarbenchError:
            if "vars" not in definition:
                raise
            left[str(stage)] = "values of `vars`"
        except (TypeError, AttributeError, LookupError, ValueError):
            left[str(stage)] = "a form that only DVC knows"
    return Definition(jobs, left)


def one_line(command: str) -> str:
    """Return a command with single spaces, as commands of both engines are compared."""
    return " ".join(command.split())


def _jobs_of(stage: str, body: dict[str, Any], params: dict[str, Any]) -> list[JobSpec]:
    return [
        _resolve(f"{stage}@{suffix}" if suffix else stage, stage, template, values)
        for suffix, values, template in _instances(body, params)
    ]


def _instances(
    body: dict[str, Any], params: dict[str, Any]
) -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
    """Suffix, context and template of every job of a stage."""
    if "matrix" in body:
        axes = {name: list(_items(values, params)) for name, values in body["matrix"].items()}
        for point in product(*(enumerate(axis) for axis in axes.values())):
            named = dict(zip(axes, point, strict=True))
            suffix = "-".join(
                f"{name}{at}" if isinstance(item, dict | list) else _text(item)
                for name, (at, item) in named.items()
            )
            yield suffix, params | {"item": {name: item for name, (_, item) in named.items()}}, body
    elif "foreach" in body:
        each = _items(body["foreach"], params)
        if isinstance(each, dict):
            for key, item in each.items():
                yield _text(key), params | {"key": _text(key), "item": item}, body["do"]
        else:
            composite = any(isinstance(item, dict | list) for item in each)
            for at, item in enumerate(each):
                yield str(at) if composite else _text(item), params | {"item": item}, body["do"]
    else:
        yield "", params, body


def _items(values: Any, params: dict[str, Any]) -> Any:
    """What an axis runs over: a list, or the names of a mapping."""
    whole = EXPRESSION.fullmatch(values) if isinstance(values, str) else None
    if whole:
        values = lookup(params, whole[1], PARAMS)
    elif EXPRESSION.search(str(values)):
        raise UnsupportedStage("expressions in what it runs over")
    if not isinstance(values, dict | list):
        raise UnsupportedStage("no list to run over")
    return values


def _resolve(name: str, stage: str, template: dict[str, Any], values: dict[str, Any]) -> JobSpec:
    for key in UNKNOWN:
        if template.get(key):
            raise UnsupportedStage(f"`{key}`")
    if not isinstance(template["cmd"], str):
        raise UnsupportedStage("several commands")

    def text(raw: str) -> str:
        if "\\${" in raw:
            raise UnsupportedStage("an escaped expression")
        return EXPRESSION.sub(lambda found: _text(_value(values, found[1])), raw)

    outs, cached = [], set()
    for entry in [*_list(template, "outs"), *_list(template, "metrics"), *_list(template, "plots")]:
        raw, flags = next(iter(entry.items())) if isinstance(entry, dict) else (entry, {})
        path = _path(text(raw))
        outs.append(path)
        if not isinstance(flags, dict) or flags.get("cache", True):
            cached.add(path)
    if not outs:
        raise UnsupportedStage("no outputs")
    return JobSpec(
        name,
        stage,
        text(template["cmd"]),
        tuple(_path(text(path)) for path in _list(template, "deps")),
        tuple(key for entry in _list(template, "params") for key in _keys(entry, text)),
        tuple(outs),
        frozenset(cached),
    )


def _list(template: dict[str, Any], key: str) -> list[Any]:
    return template.get(key) or []


def _keys(entry: Any, text: Any) -> Iterator[str]:
    """The parameters that an entry of ``params`` names: keys, or keys of other files."""
    files = {str(PARAMS): [entry]} if isinstance(entry, str) else entry
    for raw, keys in files.items():
        file = _path(text(raw))
        if not keys or not file.endswith((".yaml", ".yml", ".json")):
            raise UnsupportedStage(f"parameters of {file}")
        for key in map(text, keys):
            if re.search(r"[:\[\]]", key):
                raise UnsupportedStage(f"the parameter {key}")
            yield key if file == str(PARAMS) else f"{file}:{key}"


def _path(path: str) -> str:
    if "://" in path:
        raise UnsupportedStage("files elsewhere")
    return posixpath.normpath(path)


def _value(values: dict[str, Any], expression: str) -> Any:
    if "[" in expression:
        raise UnsupportedStage("an expression with an index")
    return lookup(values, expression, PARAMS)


def _text(value: Any) -> str:
    """A value in a command or path, as DVC writes it there."""
    if isinstance(value, bool):
        return str(value).lower()
    if not isinstance(value, str | int | float):
        raise UnsupportedStage("an expression that is no text")
    return str(value)
