"""Writes params.yaml, but not over one that a person has edited."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from carbench.core.atomic_write import write_whole
from carbench.core.errors import CarbenchError
from carbench.params.presets import apply_preset, preset_names


def write_study(path: Path, text: str, force: bool) -> None:
    """Write a study, or leave the file as it was.

    Args:
        path: the file to write.
        text: its new content.
        force: whether an edited file may be overwritten.

    Raises:
        CarbenchError: the file is none of the presets as they are, and ``force`` is not set; or it
            is a folder.
    """
    refuse_edited(path, text, force)
    write_whole(path, text)


def refuse_edited(path: Path, text: str | None, force: bool) -> None:
    """Raise :class:`CarbenchError` if the file must not be overwritten.

    Args:
        path: the file to write.
        text: its new content, if that is known.
        force: whether an edited file may be overwritten.
    """
    if path.is_dir():
        raise CarbenchError(
            path,
            found="a folder",
            expected="a file to write to",
            fix="name a file in it with --output",
        )
    if force or not path.exists():
        return
    before = path.read_text(encoding="utf-8", errors="replace")
    if before == text or _is_preset(before):
        return
    raise CarbenchError(
        path,
        found="a file that equals none of the presets: somebody may have edited it",
        expected="no file, or a preset as it is",
        fix="overwrite it with --force, or write to another file with --output",
    )


def _is_preset(text: str) -> bool:
    for name in preset_names():
        with suppress(CarbenchError):  # a preset of a person's own with a mistake in it
            if apply_preset(name) == text:
                return True
    return False
