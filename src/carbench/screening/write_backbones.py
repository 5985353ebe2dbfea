"""Writes the shortlist into the section `backbones:` of params.yaml."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap

from carbench.core.atomic import write_atomic
from carbench.core.errors import CarbenchError
from carbench.core.params import read_yaml
from carbench.core.tables import read_table
from carbench.screening.candidates import read_weights_table

# The first line of the section, and the lines up to the next section or its comment.
SECTION = re.compile(r"^(backbones:[^\n]*\n)((?:[ \t]+[^\n]*\n|\n(?=[ \t]))*)", re.M)


def write_backbones(
    path: Path, shortlist: Path, weights: Path, keep: bool
) -> dict[str, tuple[str, str]]:
    """Replace the section ``backbones:`` of a parameter file by the shortlist.

    Args:
        path: params.yaml; its other sections are unchanged.
        shortlist: shortlist.csv.
        weights: the table of pinned weights used for screening.
        keep: whether to keep backbones that are not on the shortlist, after the others.

    Returns:
        The timm model and the origin of the weights of each backbone of the shortlist, by name.

    Raises:
        CarbenchError: the shortlist is empty, or params.yaml has no section ``backbones:`` in block
            style; the file is unchanged.
    """
    rows = [row for row in read_table(shortlist) if row["shortlisted"] == "1"]
    if not rows:
        raise CarbenchError(
            shortlist,
            found="no shortlisted candidate",
            expected="at least one",
            fix="name candidates under screen.candidates in params.yaml and run again",
        )
    before: dict[str, Any] = read_yaml(path)["backbones"]
    pins = read_weights_table(weights)
    section: dict[str, Any] = {}
    written: dict[str, tuple[str, str]] = {}
    for row in rows:
        model, pin = row["model"], pins.get(row["model"])
        same = (
            name
            for name, backbone in before.items()
            if backbone["model"] == model and (backbone["weights"] == "random") == (pin is None)
        )
        name = next(same, None) or _backbone_name(model, {*before, *section})
        section[name] = {
            "model": model,
            "weights": pin.model_dump() if pin else "random",
            "train": before.get(name, {}).get("train", {}),
        }
        written[name] = (model, row["start"])
    if keep:
        section |= {name: own for name, own in before.items() if name not in section}
    text = path.read_text(encoding="utf-8")
    changed, times = SECTION.subn(lambda found: found[1] + _section_yaml(section), text)
    if times != 1:
        raise CarbenchError(
            path,
            key="backbones",
            found="no section of indented lines",
            expected="`backbones:` on its own line, followed by indented backbones",
            fix="write it as in presets/sample.yaml",
        )
    write_atomic(path, changed)
    return written


def _backbone_name(model: str, taken: set[str]) -> str:
    """Return an unused name: the architecture, or with timm's tag if it is taken."""
    architecture, _, tag = model.partition(".")
    for name in (architecture, f"{architecture}_{tag}"):
        name = re.sub(r"[^A-Za-z0-9_-]", "_", name)
        if name not in taken:
            return name
    raise CarbenchError(
        "params.yaml",
        key="backbones",
        found=f"another model named {architecture}",
        expected=f"that name free, for {model}",
        fix="rename that backbone",
    )


def _section_yaml(section: dict[str, Any]) -> str:
    """Return the section as indented YAML, formatted as in the presets."""
    yaml = YAML()
    yaml.width = 1000
    document = CommentedMap()
    for name, backbone in section.items():
        document[name] = CommentedMap(backbone)
        for key in ("weights", "train"):
            if isinstance(backbone[key], dict):
                document[name][key] = _flow_style(backbone[key])
    text = io.StringIO()
    yaml.dump(document, text)
    return "".join(f"  {line}\n" for line in text.getvalue().splitlines())


def _flow_style(mapping: dict[str, Any]) -> CommentedMap:
    """Return a mapping that is written in flow style."""
    inline = CommentedMap(
        {
            key: _flow_style(value) if isinstance(value, dict) else value
            for key, value in mapping.items()
        }
    )
    inline.fa.set_flow_style()
    return inline
