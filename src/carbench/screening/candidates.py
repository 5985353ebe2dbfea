"""Which timm models are candidates: names and patterns, and the weights that are known for them."""

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
class Candidate:
    """A timm model, and its trained weights; None: a random start."""

    model: str
    weights: Weights | None

    @property
    def architecture(self) -> str:
        """The model's name without timm's tag of the weights."""
        return self.model.partition(".")[0]

    @property
    def start(self) -> str:
        """Where its weights are from: ``file``, ``hub`` or ``random``."""
        if self.weights is None:
            return "random"
        return "file" if isinstance(self.weights, WeightsFile) else "hub"


def read_weights(path: Path) -> dict[str, Weights]:
    """Return the pinned weights of a table, by timm's name.

    The table has the columns ``model``, ``file`` (of a local checkpoint), ``hub`` and ``revision``
    (of a repository), and ``sha256``; a row has either a file or a repository.

    Raises:
        CarbenchError: the table cannot be read, or a row names no pinned content.
    """
    if not path.is_file():
        raise CarbenchError(
            path,
            found="nothing",
            expected="the table of trained weights that screen.weights names",
            fix="correct screen.weights in params.yaml, or write presets/weights.csv there",
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
) -> list[Candidate]:
    """Return the candidates that the patterns name, each once, sorted by name.

    A pattern matches timm's names with or without the tag of the weights: ``resnet*`` finds
    ``resnet50.a1_in1k``. A model with several rows in the table of weights is several candidates.

    Args:
        patterns: names; ``*`` stands for any letters, ``?`` for one.
        weights: trained weights by timm's name.
        random_starts: whether models without trained weights are candidates, too.

    Raises:
        CarbenchError: a pattern matches no model, or, without random starts, none with weights.
    """
    known = known_names()
    trained = {name.partition(".")[0] for name in weights}
    untrained = sorted(known - trained) if random_starts else []
    available = [Candidate(name, pin) for name, pin in weights.items()]
    available += [Candidate(name, None) for name in untrained]
    found: dict[str, Candidate] = {}
    for pattern in patterns:
        matching = [each for each in available if matches(each.model, pattern)]
        if not matching:
            raise _nothing_found(pattern, known)
        found |= {each.model: each for each in matching}
    return [found[name] for name in sorted(found)]


def matches(model: str, pattern: str) -> bool:
    """Say whether a pattern matches timm's name, with or without the tag of the weights."""
    return fnmatchcase(model, pattern) or fnmatchcase(model.partition(".")[0], pattern)


def _nothing_found(pattern: str, known: set[str]) -> CarbenchError:
    architecture = pattern.partition(".")[0]
    if any(fnmatchcase(name, architecture) for name in known):
        return CarbenchError(
            "params.yaml",
            key="screen.candidates",
            found=f"{pattern!r}, for which the table of screen.weights has no weights",
            expected="candidates with trained weights",
            fix="run `carbench pin`, which asks the hub and writes them into the table, or set "
            "screen.limits.random_starts: true",
        )
    return CarbenchError(
        "params.yaml",
        key="screen.candidates",
        found=f"{pattern!r}, which matches none of timm's models",
        expected="names such as resnet50, or patterns such as resnet* and *mobilenet*",
        fix="correct it; timm.list_models() lists the names",
    )
