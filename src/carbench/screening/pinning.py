"""Pins the trained weights of candidates: adds them to the table that `screen.weights` names."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path

from carbench.core.atomic import write_atomic
from carbench.core.errors import CarbenchError
from carbench.core.params import read_section
from carbench.core.tables import read_table
from carbench.models.hub import newest
from carbench.models.pinning import repository_of
from carbench.params.screen import ScreenParams
from carbench.params.train import WeightsHub
from carbench.screening.candidates import WEIGHTS_COLUMNS, matches

# So many repositories in a row that cannot be pinned: then it is not the repositories.
MOST_FAILURES = 3


def pin_candidates(path: Path) -> Iterator[tuple[str, WeightsHub | CarbenchError]]:
    """Add the trained weights of all candidates of `screen:` to the table that it names.

    Models that the table has already are left as they are. The table is written after each pin, so
    that a broken run goes on where it was.

    Yields:
        Of each model that was not in the table its pin, or why it has none.

    Raises:
        CarbenchError: params.yaml or the table cannot be read, or several repositories in a row
            cannot be asked for.
    """
    import timm

    screen = read_section(path, "screen", ScreenParams)
    table = Path(screen.weights)
    rows = read_table(table, WEIGHTS_COLUMNS)
    # A row without timm's tag, such as a file, stands for all weights of the architecture.
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
            pin = newest(repository_of(model, key), key)
        except CarbenchError as error:
            failures += 1
            if failures == MOST_FAILURES:
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
