"""Descriptions of how the inputs of a job changed."""

from __future__ import annotations

from collections.abc import Iterator

from carbench.engines.job_records import JobInputs


def describe_changes(before: JobInputs, after: JobInputs) -> Iterator[str]:
    """Yield a short description of each change of command, parameters or dependencies."""
    if before.command != after.command:
        yield f"the command changed from `{before.command}` to `{after.command}`"
    for key in sorted({*before.params, *after.params}):
        yield from _describe_params(key, before.params.get(key), after.params.get(key))
    for path in sorted({*before.deps, *after.deps}):
        old, new = before.deps.get(path), after.deps.get(path)
        if old is None:
            yield f"{path} is a new dependency"
        elif new is None:
            yield f"{path} is no longer a dependency"
        elif old != new:
            yield f"{path} changed"


def _describe_params(key: str, old: object, new: object) -> Iterator[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        for name in dict.fromkeys([*old, *new]):
            yield from _describe_params(f"{key}.{name}", old.get(name), new.get(name))
    elif old != new or isinstance(old, bool) != isinstance(new, bool):
        yield f"{key} changed from {_format(old)} to {_format(new)}"


def _format(value: object) -> str:
    return "nothing" if value is None else f"{value}"
