"""The example stages of docs/extending.md work in both engines."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from carbench.engines.engine_jobs import dvc_plan, snakemake_plan
from conftest import ROOT, Project, copy_project

pytestmark = pytest.mark.slow

BLOCK = re.compile(r"^```(\w+) ?(\S*)\n(.*?)^```$", re.M | re.S)


def follow(project: Project, page: str) -> None:
    """Write the files of a page and run its commands; the output has to contain what it shows."""
    for kind, name, text in BLOCK.findall(page):
        file = project.root / name
        if kind == "console":
            output = ""
            for line in text.splitlines():
                if line.startswith("$ "):
                    words = line[2:]
                    done = project.run("bash", "-c", words)
                    output = done.stdout + done.stderr
                    if "--dry-run" in words:
                        assert "Nothing to be done" in output, words
                else:
                    assert line in output
        elif name == "dvc.yaml":
            content = file.read_text()
            file.write_text(content.replace("\nstages:\n", f"\nstages:\n{text}\n", 1))
        else:
            file.parent.mkdir(exist_ok=True)
            before = file.read_text() if file.exists() else ""
            file.write_text(f"{before}\n\n{text}" if before else text)


def test_the_example_stages_work_in_both_engines(smoke_run: Project, tmp_path: Path) -> None:
    project = copy_project(smoke_run, tmp_path / "study")
    follow(project, (ROOT / "docs/extending.md").read_text())
    own = project.root / "results/own"
    assert int((own / "count.txt").read_text()) > 10
    assert (own / "largest.txt").read_text().strip() in {
        path.name for path in (project.root / "results/data/images").glob("*/*")
    }
    assert (snakemake_plan(project.root), dvc_plan(project.root)) == (set(), set())
    # Snakemake detects an edit of a rule that dvc.yaml does not have.
    rules = project.root / "workflow/rules/own.smk"
    rules.write_text(rules.read_text().replace("wc -l", "wc -c"))
    output = project.run("snakemake", "results/own/count.txt", "--dry-run").stdout
    assert "Code has changed since last execution" in output
