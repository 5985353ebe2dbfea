"""Candidates for screening: timm models that match patterns, with their pinned weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from pydantic import ValidationError

from carbench.core.errors import CarbenchError
from carbench.core.tables import read_table
from carbench.models.timm_names import known_names
from carbench.params.train import WeightsFile, WeightsHub

WEIGHTS_COLUMNS = ("model", "file", "hub", "revision", "sha256")
Weights = WeightsFile | WeightsHub


@dataclass(frozen=True)
class ScreeningCandidate:
    """A timm model and its pretrained weights; None: random initialisation."""

    model: str
    weights: Weights | None

    @property
    def architecture(self) -> str:
        """The model's name without timm's tag of the weights."""
        return self.model.partition(".")[0]

    @property
    def start(self) -> str:
        """The origin of its weights: ``file``, ``hub`` or ``random``."""
        if self.weights is None:
            return "random"
        return "file" if isinstance(self.weights, WeightsFile) else "hub"


def read_weights_table(path: Path) -> dict[str, Weights]:
    """Read a table of pinned weights, by timm name.

    The table has the columns ``model``, ``file`` (of a local checkpoint), ``hub`` and ``revision``
    (of a repository), and ``sha256``; a row has either a file or a repository.

    Raises:
        CarbenchError: the table cannot be read, or a row is not a valid pin.
    """
    if not path.is_file():
        raise CarbenchError(
            path,
            found="nothing",
            expected="the table of pretrained weights set as screen.weights",
            fix="correct screen.weights in params.yaml, or copy presets/weights.csv there",
        )
    weights: dict[str, Weights] = {}
    for line, row in enumerate(read_table(path, WEIGHTS_COLUMNS), start=2):
        try:
            weights[row["model"]] = _pin(row)
        except ValidationError as error:
            wrong = error.errors()[0]
            raise CarbenchError(
                path,
                key=f"line {line}, {wrong['loc'][-1]}",
                found=f"{wrong['input']!r}",
                expected="file and sha256, or hub, revision (40 hexadecimal digits) and sha256",
                fix="correct the line, or let `carbench pin` write it",
            ) from None
    return weights


def _pin(row: dict[str, str]) -> Weights:
    if row["file"]:
        return WeightsFile(file=row["file"], sha256=row["sha256"])
    return WeightsHub(hub=row["hub"], revision=row["revision"], sha256=row["sha256"])


def find_candidates(
    patterns: Sequence[str], weights: dict[str, Weights], random_starts: bool
) -> list[ScreeningCandidate]:
    """Return the candidates that match any of the patterns, without repetitions, sorted by name.

    A pattern matches timm names with or without the tag of the weights: ``resnet*`` matches
    ``resnet50.a1_in1k``. Each row of the table of weights is a candidate.

    Args:
        patterns: names; ``*`` matches any characters, ``?`` a single one.
        weights: pretrained weights by timm name.
        random_starts: whether models without pretrained weights are candidates, too.

    Raises:
        CarbenchError: a pattern matches no model, or no model with weights if they are required.
    """
    known = known_names()
    trained = {name.partition(".")[0] for name in weights}
    untrained = sorted(known - trained) if random_starts else []
    available = [ScreeningCandidate(name, pin) for name, pin in weights.items()]
    available += [ScreeningCandidate(name, None) for name in untrained]
    found: dict[str, ScreeningCandidate] = {}
    for pattern in patterns:
        matching = [each for each in available if matches(each.model, pattern)]
        if not matching:
            raise _no_match_error(pattern, known)
        found |= {each.model: each for each in matching}
    return [found[name] for name in sorted(found)]


def matches(model: str, pattern: str) -> bool:
    """Return whether a pattern matches a timm name, with or without the tag of the weights."""
    return fnmatchcase(model, pattern) or fnmatchcase(model.partition(".")[0], pattern)


def _no_match_error(pattern: str, known: set[str]) -> CarbenchError:
    architecture = pattern.partition(".")[0]
    if any(fnmatchcase(name, architecture) for name in known):
        return CarbenchError(
            "params.yaml",
            key="screen.candidates",
            found=f"{pattern!r}, which has no weights in the table screen.weights",
            expected="candidates with pretrained weights",
            fix="run `carbench pin`, which queries the hub and adds them to the table, or set "
            "screen.limits.random_starts: true",
        )
    return CarbenchError(
        "params.yaml",
        key="screen.candidates",
        found=f"{pattern!r}, which matches no timm model",
        expected="names such as resnet50, or patterns such as resnet* and *mobilenet*",
        fix="correct it; timm.list_models() lists the names",
    )
