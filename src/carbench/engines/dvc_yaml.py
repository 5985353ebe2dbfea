"""The jobs that dvc.yaml defines, resolved with params.yaml in milliseconds.

DVC's own resolver takes half a second to import and seconds for large studies, which every job
would have to wait for. This one supports the part of the format that most stages use (``${...}``,
``matrix``, ``foreach``); a test compares it with DVC's. Stages that use anything else are
unsupported: DVC and Snakemake run them as usual, but carbench keeps no records of them.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from pathlib import Path
from typing import Any

from carbench.core.errors import CarbenchError
from carbench.core.params import lookup, read_yaml
from carbench.engines.hashing import file_md5

DEFINITION = Path("dvc.yaml")
PARAMS = Path("params.yaml")
EXPRESSION = re.compile(r"\$\{\s*([^}]+?)\s*\}")
# A dependency of carbench's own scripts, which write their job records themselves.
CORE = "src/carbench/core"
# Keys of a stage that make its results depend on more than its files, command and parameters.
UNSUPPORTED_KEYS = ("wdir", "vars", "frozen", "always_changed")


@dataclass(frozen=True)
class JobSpec:
    """One job as dvc.yaml defines it; paths are relative to the repository, POSIX style.

    Attributes:
        name: ``train@resnet-0``.
        stage: ``train``.
        command: the command line, as in DVC.
        deps: files and folders that it reads.
        params: keys of params.yaml, and ``FILE:KEY`` for other files.
        outs: files and folders that it writes.
        cached: the ``outs`` that DVC stores in its cache; the others are tracked by git.
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
        """Whether its command is a carbench script, which writes and uses job records itself."""
        return CORE in self.deps and one_line(self.command).startswith("python scripts/")


@dataclass(frozen=True)
class PipelineDefinition:
    """The content of dvc.yaml.

    Attributes:
        jobs: by name.
        unsupported_stages: stages that carbench keeps no records of, with the reason.
    """

    jobs: Mapping[str, JobSpec]
    unsupported_stages: Mapping[str, str]


class UnsupportedStage(Exception):  # noqa: N818 - not an error
    """A stage uses a part of the format that this module does not support."""


def read_jobs(root: Path = Path()) -> Mapping[str, JobSpec]:
    """Return the jobs in ``root`` by name; see :func:`read_definition`."""
    return read_definition(root).jobs


def read_definition(root: Path = Path()) -> PipelineDefinition:
    """Return what dvc.yaml, resolved with params.yaml, defines in ``root``.

    Raises:
        CarbenchError: dvc.yaml or params.yaml cannot be read, or dvc.yaml refers to a key that
            params.yaml does not have.
    """
    # A job reads it several times, to notice edits; resolving thousands of jobs takes a while.
    return _read_definition(root, _md5(root / DEFINITION), _md5(root / PARAMS))


def _md5(path: Path) -> str:
    return file_md5(path) if path.is_file() else ""


@lru_cache(maxsize=4)
def _read_definition(root: Path, definition_md5: str, params_md5: str) -> PipelineDefinition:
    """Read the two files, which have these hashes."""
    definition = read_yaml(root / DEFINITION)
    params = read_yaml(root / PARAMS)
    stages = lookup(definition, "stages", root / DEFINITION)
    if not isinstance(stages, dict):
        raise CarbenchError(
            root / DEFINITION,
            key="stages",
            found=f"a {type(stages).__name__}",
            expected="stages by name",
            fix="correct it; `dvc stage list` reports the error",
        )
    jobs: dict[str, JobSpec] = {}
    unsupported: dict[str, str] = {}
    for stage, body in stages.items():
        try:
            jobs |= {job.name: job for job in _jobs_of(str(stage), body, params)}
        except UnsupportedStage as reason:
            unsupported[str(stage)] = str(reason)
        except CarbenchError:
            if "vars" not in definition:
                raise
            unsupported[str(stage)] = "values of `vars`"
        except (TypeError, AttributeError, LookupError, ValueError):
            unsupported[str(stage)] = "a form that only DVC supports"
    return PipelineDefinition(jobs, unsupported)


def one_line(command: str) -> str:
    """Return a command with single spaces, the form in which commands are compared."""
    return " ".join(command.split())


def _jobs_of(stage: str, body: dict[str, Any], params: dict[str, Any]) -> list[JobSpec]:
    return [
        _resolve(f"{stage}@{suffix}" if suffix else stage, stage, template, values)
        for suffix, values, template in _instances(body, params)
    ]


def _instances(
    body: dict[str, Any], params: dict[str, Any]
) -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
    """Yield suffix, context and template of each job of a stage."""
    if "matrix" in body:
        axes = {name: list(_items(values, params)) for name, values in body["matrix"].items()}
        for point in product(*(enumerate(axis) for axis in axes.values())):
            named = dict(zip(axes, point, strict=True))
            suffix = "-".join(
                f"{name}{index}" if isinstance(item, dict | list) else _text(item)
                for name, (index, item) in named.items()
            )
            yield suffix, params | {"item": {name: item for name, (_, item) in named.items()}}, body
    elif "foreach" in body:
        items = _items(body["foreach"], params)
        if isinstance(items, dict):
            for key, item in items.items():
                yield _text(key), params | {"key": _text(key), "item": item}, body["do"]
        else:
            composite = any(isinstance(item, dict | list) for item in items)
            for index, item in enumerate(items):
                yield str(index) if composite else _text(item), params | {"item": item}, body["do"]
    else:
        yield "", params, body


def _items(values: Any, params: dict[str, Any]) -> Any:
    """Return the values of an axis: a list, or a mapping whose names are used."""
    whole = EXPRESSION.fullmatch(values) if isinstance(values, str) else None
    if whole:
        values = lookup(params, whole[1], PARAMS)
    elif EXPRESSION.search(str(values)):
        raise UnsupportedStage("expressions in the values of `matrix` or `foreach`")
    if not isinstance(values, dict | list):
        raise UnsupportedStage("no list in `matrix` or `foreach`")
    return values


def _resolve(name: str, stage: str, template: dict[str, Any], values: dict[str, Any]) -> JobSpec:
    for key in UNSUPPORTED_KEYS:
        if template.get(key):
            raise UnsupportedStage(f"`{key}`")
    if not isinstance(template["cmd"], str):
        raise UnsupportedStage("several commands")

    def text(raw: str) -> str:
        if "\\${" in raw:
            raise UnsupportedStage("an escaped expression")
        return EXPRESSION.sub(lambda match: _text(_value(values, match[1])), raw)

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
    """Yield the parameters that an entry of ``params`` lists: keys, or keys of other files."""
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
        raise UnsupportedStage("files outside of the file system")
    return posixpath.normpath(path)


def _value(values: dict[str, Any], expression: str) -> Any:
    if "[" in expression:
        raise UnsupportedStage("an expression with an index")
    return lookup(values, expression, PARAMS)


def _text(value: Any) -> str:
    """Return a value as DVC inserts it into a command or path."""
    if isinstance(value, bool):
        return str(value).lower()
    if not isinstance(value, str | int | float):
        raise UnsupportedStage("an expression that is not a scalar")
    return str(value)
