"""What is to run on a GPU one day runs here in small."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import ROOT

SECTIONS = {
    "Whole step against its ceiling": "images/s",
    "Kernels of a step": "launches per step",
    "The same training twice": "same bits",
    "End to end, from JPEG files": "images/s, whole process",
    "The model's step as a CUDA graph": "not measured",  # a CPU has none
    "Choices": "times the default's",
    "Whole step, batches of 16": "images/s",
}


def measured(folder: Path, *options: str) -> dict[str, list[dict[str, object]]]:
    """The sections that the benchmark wrote, its Markdown beside them."""
    command = [sys.executable, str(ROOT / "benchmarks/gpu.py"), "--output", str(folder)]
    done = subprocess.run(
        [*command, "--device", "cpu", "--tiny", *options], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    sections: dict[str, list[dict[str, object]]] = json.loads((folder / "gpu.json").read_text())[
        "sections"
    ]
    assert (folder / "gpu.md").read_text() in done.stdout
    assert list(sections) == list(SECTIONS)
    return sections


@pytest.mark.slow
def test_every_section_has_its_figures(tmp_path: Path) -> None:
    sections = measured(tmp_path, "--seconds", "1000")
    for name, rows in sections.items():
        assert len(rows) >= 2, name
        for row in rows:
            assert row.get(SECTIONS[name]), (name, row)
            assert "" not in row.values(), (name, row)
            assert ("not measured" in row) == (name == "The model's step as a CUDA graph"), row
    assert {row["same bits"] for row in sections["The same training twice"]} == {"yes"}


@pytest.mark.slow
def test_without_time_every_row_says_so(tmp_path: Path) -> None:
    for rows in measured(tmp_path, "--seconds", "1").values():
        assert all("were left" in str(row["not measured"]) for row in rows)
