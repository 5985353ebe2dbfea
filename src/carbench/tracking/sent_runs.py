"""What has been sent to a tracker, remembered below ``.carbench/track`` from process to process."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path

from pydantic import TypeAdapter

from carbench.engines.state_files import read_state, write_state

FOLDER = Path(".carbench/track")
VERSION = 1


@dataclass
class SentRun:
    """What a tracker has of a run.

    Attributes:
        run: its id in the tracker; "": it is not known yet.
        epochs: number of epochs, from the first on.
        parts: names of everything else.
        complete: whether it is marked as ended.
    """

    run: str = ""
    epochs: int = 0
    parts: list[str] = field(default_factory=list)
    complete: bool = False


SCHEMA = TypeAdapter(SentRun)


class SentRuns:
    """The runs of one destination.

    Args:
        folder: the destination's folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def read(self, name: str, key: str) -> SentRun:
        """Return what was sent of a run."""
        return read_state(self._path(name, key), VERSION, SCHEMA) or SentRun()

    def save(self, name: str, key: str, sent: SentRun) -> None:
        """Remember what was sent of a run."""
        write_state(self._path(name, key), VERSION, asdict(sent))

    def _path(self, name: str, key: str) -> Path:
        return self.folder / name / f"{key}.json"
