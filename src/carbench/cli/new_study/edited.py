"""Protects an edited params.yaml from being overwritten."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from carbench.core.errors import CarbenchError
from carbench.params.presets import apply_preset, preset_names


def refuse_edited(path: Path, force: bool) -> None:
    """Reject a file that is not an unchanged preset and would be overwritten.

    Args:
        path: the file to be written.
        force: whether an edited file may be overwritten.

    Raises:
        CarbenchError: the file may have been edited and ``force`` is not set, or it is a folder.
    """
    if path.is_dir():
        raise CarbenchError(
            path,
            found="a folder",
            expected="a file to write to",
            fix="specify a file in it with --output",
        )
    if force or not path.exists():
        return
    if not _is_preset(path.read_text(encoding="utf-8", errors="replace")):
        raise CarbenchError(
            path,
            found="a file that differs from all presets and may have been edited",
            expected="no file, or an unchanged preset",
            fix="overwrite it with --force, or write to another file with --output",
        )


def _is_preset(text: str) -> bool:
    for name in preset_names():
        with suppress(CarbenchError):  # an invalid preset, such as one of the user's own
            if apply_preset(name) == text:
                return True
    return False
