"""The presets in presets/: sample.yaml is complete, the others contain only differences from it."""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from carbench.core.errors import CarbenchError
from carbench.core.params import parse_yaml, read_text
from carbench.params.merging import merge_texts

FOLDER = Path("presets")
# The preset with all keys, their comments and their default values.
COMPLETE = "sample"


def preset_names(folder: Path = FOLDER) -> list[str]:
    """Return the names of the presets in a folder, sorted."""
    return sorted(path.stem for path in folder.glob("*.yaml"))


def apply_preset(preset: str | Path) -> str:
    """Return the text of a complete params.yaml, with the comments that explain each key.

    Args:
        preset: a name such as ``smoke`` (in presets/ of the current directory), or the
            path of a preset; sample.yaml is then read from the same folder.

    Raises:
        CarbenchError: there is no such preset, or it is invalid.
    """
    path = preset if isinstance(preset, Path) else FOLDER / f"{preset}.yaml"
    if not path.is_file():
        raise unknown_preset(path)
    complete = path.with_stem(COMPLETE)
    base = read_text(complete)
    parse_yaml(base, complete)
    if path == complete:
        return base
    changes = read_text(path)
    parse_yaml(changes, path)
    return merge_texts(base, changes, path)


def read_preset(preset: str | Path) -> dict[str, Any]:
    """Return the content of a complete params.yaml; see :func:`apply_preset`."""
    content: dict[str, Any] = YAML(typ="safe").load(apply_preset(preset))
    return content


def unknown_preset(path: Path, found: str = "no such preset") -> CarbenchError:
    """Return the error for a preset that does not exist; it lists the existing ones.

    Args:
        path: path of the preset.
        found: what the error reports as found.
    """
    names = preset_names(path.parent)
    if not names:
        return CarbenchError(
            path.parent,
            found="no presets",
            expected="a clone of carbench's repository, which contains presets and workflow",
            fix="run from the repository's root",
        )
    close = get_close_matches(path.stem, names, n=1)
    return CarbenchError(
        path.stem,
        found=found,
        expected=f"one of {', '.join(names)}",
        fix=f"write {close[0]}" if close else "choose one of them",
    )
