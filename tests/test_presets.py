"""Presets contain only what differs from sample.yaml and give a complete params.yaml."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from carbench.core.errors import CarbenchError
from carbench.params.merging import merge_texts
from carbench.params.presets import apply_preset, preset_names, read_preset
from carbench.params.study import check
from conftest import ROOT

PRESETS = ROOT / "presets"
OTHERS = [name for name in preset_names(PRESETS) if name != "sample"]
SAMPLE = (PRESETS / "sample.yaml").read_text()
COMMENT = re.compile(r"^ *([\w]+):.*?  +(# .*)$", re.M)


def leaves(content: Any, above: str = "") -> Iterator[tuple[str, Any]]:
    """Yield dotted keys and values; a list or an empty mapping is one value."""
    if isinstance(content, dict) and content:
        for name, value in content.items():
            yield from leaves(value, f"{above}{name}.")
    else:
        yield above.rstrip("."), content


def test_all_presets_are_found() -> None:
    assert preset_names(PRESETS) == ["archive", "kaggle-cars", "sample", "smoke"]


@pytest.mark.parametrize("name", ["sample", *OTHERS])
def test_a_preset_becomes_a_complete_study(name: str, tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(apply_preset(PRESETS / f"{name}.yaml"))
    check(path)
    assert yaml.safe_load(path.read_text()) == read_preset(PRESETS / f"{name}.yaml")


@pytest.mark.parametrize("name", OTHERS)
def test_a_preset_keeps_the_comments_of_the_sample(name: str) -> None:
    text = apply_preset(PRESETS / f"{name}.yaml")
    replaced = SAMPLE[SAMPLE.index("\n  resnet:") : SAMPLE.index("\nseeds:")]
    for key, comment in COMMENT.findall(SAMPLE.replace(replaced, "")):
        if key == "all":  # of screen.candidates, which is replaced, too
            continue
        assert re.search(rf"^ *{key}:.*{re.escape(comment[2:])}$", text, re.M), key
    own = (PRESETS / f"{name}.yaml").read_text()
    for line in own.splitlines():
        if "#" in line:
            assert line[line.index("#") :] in text
    assert "The study: every choice that changes a result" in text
    assert "The embedded sample" not in text


@pytest.mark.parametrize("name", OTHERS)
def test_a_preset_has_only_what_differs(name: str) -> None:
    own = yaml.safe_load((PRESETS / f"{name}.yaml").read_text())
    del own["backbones"]
    default = dict(leaves(read_preset(PRESETS / "sample.yaml")))
    for key, value in leaves(own):
        in_replaced = key.startswith("train.finetune")
        assert in_replaced or default.get(key) != value, f"{key} is {value} anyway"


def test_the_sample_is_written_unchanged() -> None:
    assert apply_preset(PRESETS / "sample.yaml") == SAMPLE


def merged(changes: str) -> tuple[str, dict[str, Any]]:
    text = merge_texts(SAMPLE, changes, "mine.yaml")
    return text, yaml.safe_load(text)


def test_a_section_merges_and_a_mapping_with_free_keys_is_replaced() -> None:
    before = yaml.safe_load(SAMPLE)
    changes = "train:\n  augment:\n    flip: false\n  finetune:\n    lr: 0.1\n"
    changes += "choose:\n  deployment_mix:\n    SUV: 1.0\n"
    _, after = merged(changes)
    train = before["train"]
    assert after["train"]["augment"] == train["augment"] | {"flip": False}
    assert after["train"]["finetune"] == {"lr": 0.1}
    assert after["choose"] == before["choose"] | {"deployment_mix": {"SUV": 1.0}}
    unchanged = set(before) - {"train", "choose"}
    assert all(after[name] == before[name] for name in unchanged)


def test_only_the_lines_of_a_key_change() -> None:
    text, _ = merged("pack:\n  size: 64\n")
    changed = [
        (old, new)
        for old, new in zip(SAMPLE.splitlines(), text.splitlines(), strict=True)
        if old != new
    ]
    assert changed == [
        (
            "  size: 56                  # pixels, both sides",
            "  size: 64                  # pixels, both sides",
        )
    ]


def test_comments_of_a_preset_are_merged() -> None:
    changes = (
        '# Mine.\n\npack:\n    # as the camera\'s "#1" crop\n    size: 64   # exactly\n'
        'report:\n    title: "No. #1"\n'
    )
    text, content = merged(changes)
    assert content["pack"]["size"] == 64
    assert content["report"]["title"] == "No. #1"
    assert '  # as the camera\'s "#1" crop\n  size: 64   # exactly\n  fit: squash  ' in text
    assert text.startswith("# Mine.\n\n# The study: every choice")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ("trian:\n  lr: 0.1\n", ["mine.yaml: trian", "unknown key", "write train."]),
        ("train:\n  lrr: 0.1\n", ["mine.yaml: train.lrr", "unknown key", "write train.lr"]),
        ("train: {lr: 0.1}\n", ["mine.yaml: train", "section in braces"]),
        ("train:\n", ["mine.yaml: train: found None instead of a section"]),
        ("pack: 5\n", ["mine.yaml: pack: found 5 instead of a section"]),
        ("pack: &p\n  size: 9\ntrain:\n  <<: *p\n", ["mine.yaml: train.size", "(<<)"]),
    ],
)
def test_mistakes_in_a_preset_are_explained(changes: str, words: list[str]) -> None:
    with pytest.raises(CarbenchError) as caught:
        merged(changes)
    for word in [*words, "Fix:"]:
        assert word in str(caught.value)


def test_an_unknown_preset_is_explained(tmp_path: Path) -> None:
    with pytest.raises(CarbenchError, match=r"one of archive, kaggle-cars, .* write smoke"):
        apply_preset(PRESETS / "smoek.yaml")
    with pytest.raises(CarbenchError, match="run from the repository's root"):
        apply_preset(tmp_path / "smoke.yaml")
