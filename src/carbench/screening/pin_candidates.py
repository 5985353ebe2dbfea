"""Pins the pretrained weights of candidates in the table `screen.weights`."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path

from carbench.core.atomic import write_atomic
from carbench.core.errors import CarbenchError
from carbench.core.params import read_section
from carbench.core.tables import read_table
from carbench.models.hub import newest_pin
from carbench.models.pin_backbones import repository_of
from carbench.params.screen import ScreenParams
from carbench.params.train import WeightsHub
from carbench.screening.candidates import WEIGHTS_COLUMNS, matches

# After this many consecutive failures, the cause is not a single repository.
MAX_FAILURES = 3


def pin_candidates(path: Path) -> Iterator[tuple[str, WeightsHub | CarbenchError]]:
    """Add pins for all candidates of `screen:` to its table of weights.

    Models that are already in the table are skipped. The table is written after each pin, so that
    an interrupted run resumes.

    Yields:
        Each model that was not in the table, with its pin or the error.

    Raises:
        CarbenchError: params.yaml or the table cannot be read, or the hub cannot be queried for
            several consecutive repositories.
    """
    import timm

    screen = read_section(path, "screen", ScreenParams)
    table = Path(screen.weights)
    rows = read_table(table, WEIGHTS_COLUMNS)
    # A row without timm's tag, such as a file, applies to all weights of the architecture.
    known = {row["model"] for row in rows}
    patterns = [pattern for own in screen.candidates.values() for pattern in own]
    failures = 0
    for model in timm.list_pretrained():
        architecture = model.partition(".")[0]
        if {model, architecture} & known or not any(
            matches(model, pattern) for pattern in patterns
        ):
            continue
        key = f"screen.candidates, {model}"
        try:
            pin = newest_pin(repository_of(model, key), key)
        except CarbenchError as error:
            failures += 1
            if failures == MAX_FAILURES:
                raise
            yield model, error
            continue
        failures = 0
        rows.append({"model": model, "file": "", **pin.model_dump()})
        text = io.StringIO()
        writer = csv.DictWriter(text, WEIGHTS_COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        write_atomic(table, text.getvalue())
        yield model, pin
