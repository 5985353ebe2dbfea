"""What makes the results of a job others than before, in words."""

from __future__ import annotations

from collections.abc import Iterator

from carbench.engines.job_records import JobInputs


def describe_changes(before: JobInputs, after: JobInputs) -> Iterator[str]:
    """Say in a few words each what makes the results of a job others than before."""
    if before.command != after.command:
        yield f"the command changed from `{before.command}` to `{after.command}`"
    for key in sorted({*before.params, *after.params}):
        yield from _params(key, before.params.get(key), after.params.get(key))
    for path in sorted({*before.deps, *after.deps}):
        old, new = before.deps.get(path), after.deps.get(path)
        if old is None:
            yield f"{path} is new to it"
        elif new is None:
            yield f"{path} is no longer read"
        elif old != new:
            yield f"{path} changed"


def _params(key: str, old: object, new: object) -> Iterator[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        for name in dict.fromkeys([*old, *new]):
            yield from _params(f"{key}.{name}", old.get(name), new.get(name))
    elif old != new or isinstance(old, bool) != isinstance(new, bool):
        yield f"{key} changed from {_shown(old)} to {_shown(new)}"


def _shown(value: object) -> str:
    return "nothing" if value is None else f"{value}"
