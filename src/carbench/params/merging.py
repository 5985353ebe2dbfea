"""Changes values in the text of params.yaml; other lines and the comments stay unchanged.

Sections and their subsections are merged key by key. Any other value is replaced as a whole, even a
mapping with user-defined keys (``backbones``, ``screen.candidates``, ``train.finetune``,
``choose.deployment_mix``). The types in :mod:`carbench.params.study` determine what is a section.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from io import StringIO
from itertools import takewhile
from typing import Any

import yaml
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import YAMLError
from ruamel.yaml.scalarstring import DoubleQuotedScalarString

from carbench.core.errors import CarbenchError
from carbench.core.params import Section
from carbench.params.study import Study

Key = tuple[str, ...]


def merge_texts(base: str, changes: str, origin: object) -> str:
    """Return ``base`` with the values of ``changes``.

    Args:
        base: a complete params.yaml.
        changes: a part of a params.yaml, in block style. Comment lines at its top replace those of
            ``base``. Comments above a key and at the end of its line are copied with it; a key
            without a comment at the end of its line keeps that of ``base``.
        origin: the source of ``changes``, for error messages.

    Raises:
        CarbenchError: ``changes`` has a key that ``base`` lacks, or a section whose keys are not on
            separate lines.
    """
    old, new = _Document(base, origin), _Document(changes, origin)
    for key in new.entries:
        if key not in old.entries:
            raise _unknown(key, old.entries, origin)
    lines = list(old.lines)
    # From the end, so that the positions of the remaining entries stay valid.
    for key, entry in sorted(old.entries.items(), key=lambda item: -item[1].start):
        if key in new.entries:
            lines[entry.start : entry.end] = _replacement(old, entry, new, new.entries[key])
    if new.head:
        lines[: len(old.head)] = new.head
    return "\n".join(lines) + "\n"


def as_changes(values: Mapping[str, object]) -> str:
    """Return values as the text of ``changes`` for :func:`merge_texts`.

    Args:
        values: values by dotted key, such as ``train.epochs``. A list is written on one line; a
            mapping that ruamel.yaml has read keeps its layout and its comments.
    """
    document = CommentedMap()
    for key, value in values.items():
        *parents, last = key.split(".")
        section = document
        for parent in parents:
            section = section.setdefault(parent, CommentedMap())
        section[last] = _written(value)
    writer = YAML()
    writer.width = sys.maxsize
    text = StringIO()
    writer.dump(document, text)
    return text.getvalue()


def _written(value: object) -> object:
    if isinstance(value, list):
        sequence = CommentedSeq(_written(each) for each in value)
        sequence.fa.set_flow_style()
        return sequence
    return _quoted_if_needed(value) if isinstance(value, str) else value


def _quoted_if_needed(text: str) -> str:
    """Return a string, in quotes unless both YAML versions read it as a string without them."""
    try:
        is_plain = yaml.safe_load(text) == text == YAML(typ="safe").load(text)
    except (yaml.YAMLError, YAMLError, ValueError):
        is_plain = False
    return text if is_plain else DoubleQuotedScalarString(text)


@dataclass(frozen=True)
class _Entry:
    """The lines of one key and its value, from ``start`` to ``end`` (exclusive)."""

    start: int
    end: int
    column: int


class _Document:
    """A YAML text and the positions of its values."""

    def __init__(self, text: str, origin: object) -> None:
        self.lines = text.splitlines()
        self.head = list(takewhile(_is_comment, self.lines))
        found = list(_walk(YAML().load(text), Study, (), origin))
        starts = [line for _, line, _, _ in found]
        ends = [*starts[1:], len(self.lines)]
        self.entries = {
            key: _Entry(line, self._trimmed(line, end, column), column)
            for (key, line, column, is_section), end in zip(found, ends, strict=True)
            if not is_section
        }
        # For each line, the column at which its last token ends; the rest is a comment.
        self._content_ends: dict[int, int] = {}
        for token in yaml.scan(text):
            mark = token.end_mark
            self._content_ends[mark.line] = max(mark.column, self._content_ends.get(mark.line, 0))

    def _trimmed(self, start: int, end: int, column: int) -> int:
        """Return the end without blank lines and comments that belong to the next key."""
        while end > start + 1:
            line = self.lines[end - 1]
            is_outside = _is_comment(line) and len(line) - len(line.lstrip()) <= column
            if line.strip() and not is_outside:
                break
            end -= 1
        return end

    def above(self, start: int) -> list[str]:
        """Return the comment lines directly above a line, except those at the top of the text."""
        first = start
        while first > len(self.head) and _is_comment(self.lines[first - 1]):
            first -= 1
        return self.lines[first:start]

    def divided(self, number: int) -> tuple[str, str]:
        """Return the content of a line, and the comment at its end."""
        line = self.lines[number]
        end = self._content_ends[number]
        return line[:end], line[end:].strip()


def _walk(
    mapping: Any, model: type[Section], above: Key, origin: object
) -> Iterator[tuple[Key, int, int, bool]]:
    """Yield each key, its line and column, and whether it is a section, in text order."""
    for name, value in mapping.items():
        key = (*above, str(name))
        if name not in (mapping.lc.data or {}):
            raise _malformed(key, "a key that comes from another mapping (<<)", origin)
        line, column = mapping.lc.key(name)
        field = model.model_fields.get(str(name))
        below = field.annotation if field else None
        if not (isinstance(below, type) and issubclass(below, Section)):
            yield key, line, column, False
            continue
        if not isinstance(value, dict):
            raise _malformed(key, f"{value!r} instead of a section", origin)
        if value.fa.flow_style():  # type: ignore[attr-defined]
            raise _malformed(key, "a section in braces", origin)
        yield key, line, column, True
        yield from _walk(value, below, key, origin)


def _replacement(old: _Document, before: _Entry, new: _Document, after: _Entry) -> list[str]:
    """Return the lines that replace ``before``, with the same indentation."""
    lines = new.lines[after.start : after.end]
    content, comment = new.divided(after.start)
    old_content, old_comment = old.divided(before.start)
    if not comment and old_comment:
        column = old.lines[before.start].index(old_comment, len(old_content)) - before.column
        indented = content[after.column :]
        # At its old column, if the new value is short enough.
        lines[0] = " " * after.column + f"{indented:<{column - 2}}  {old_comment}"
    shift = before.column - after.column
    return [_shifted(line, shift) for line in new.above(after.start) + lines]


def _shifted(line: str, shift: int) -> str:
    return " " * shift + line if shift > 0 else line[-shift:] if line.strip() else line


def _is_comment(line: str) -> bool:
    return line.lstrip().startswith("#")


def _malformed(key: Key, found: str, origin: object) -> CarbenchError:
    return CarbenchError(
        origin,
        key=".".join(key),
        found=found,
        expected="each key on a separate line",
        fix="write it as in presets/sample.yaml",
    )


def _unknown(key: Key, known: dict[Key, _Entry], origin: object) -> CarbenchError:
    names = [".".join(each) for each in known]
    close = get_close_matches(".".join(key), names, n=1)
    return CarbenchError(
        origin,
        key=".".join(key),
        found="an unknown key",
        expected="keys of presets/sample.yaml",
        fix=f"write {close[0]}" if close else "remove it",
    )
