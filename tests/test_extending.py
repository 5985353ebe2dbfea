"""docs/extending.md: the stages that it shows work in both engines."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from carbench.engines.engine_jobs import dvc_plan, snakemake_plan
from conftest import ROOT, Project, copy_project

pytestmark = pytest.mark.slow

BLOCK = re.compile(r"^```(\w+) ?(\S*)\n(.*?)^```$", re.M | re.S)


def follow(project: Project, page: str) -> None:
    """Write the files that a page shows, and type its commands; what they print has to be there."""
    for kind, name, text in BLOCK.findall(page):
        file = project.root / name
        if kind == "console":
            said = ""
            for line in text.splitlines():
                if line.startswith("$ "):
                    words = line[2:]
                    done = project.run("bash", "-c", words)
                    said = done.stdout + done.stderr
                    if "--dry-run" in words:
                        assert "Nothing to be done" in said, words
                else:
                    assert line in said
        elif name == "dvc.yaml":
            content = file.read_text()
            file.write_text(content.replace("\nstages:\n", f"\nstages:\n{text}\n", 1))
        else:
            file.parent.mkdir(exist_ok=True)
            before = file.read_text() if file.exists() else ""
            file.write_text(f"{before}\n\n{text}" if before else text)


def test_the_stages_that_the_page_shows(smoke_run: Project, tmp_path: Path) -> None:
    project = copy_project(smoke_run, tmp_path / "study")
    follow(project, (ROOT / "docs/extending.md").read_text())
    own = project.root / "results/own"
    assert int((own / "count.txt").read_text()) > 10
    assert (own / "largest.txt").read_text().strip() in {
        path.name for path in (project.root / "results/data/images").glob("*/*")
    }
    assert (snakemake_plan(project.root), dvc_plan(project.root)) == (set(), set())
    # Snakemake notices an edit of the rule that it alone knows.
    rules = project.root / "workflow/rules/own.smk"
    rules.write_text(rules.read_text().replace("wc -l", "wc -c"))
    said = project.run("snakemake", "results/own/count.txt", "--dry-run").stdout
    assert "Code has changed since last execution" in said
