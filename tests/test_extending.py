"""docs/extending.md: what it shows works in both engines."""

from __future__ import annotations

import csv
import re
import shutil
from collections import Counter
from pathlib import Path

import pytest

from carbench.engines.engine_jobs import dvc_plan, snakemake_plan
from conftest import ROOT, Project, copy_project

pytestmark = pytest.mark.slow

BLOCK = re.compile(r"^```(\w+) ?(\S*)\n(.*?)^```$", re.M | re.S)


def follow(project: Project, page: str) -> None:
    """Write the files that a page shows and run its commands; what they print has to be there."""
    for kind, name, text in BLOCK.findall(page):
        file = project.root / name
        if kind == "console":
            printed = ""
            for line in text.splitlines():
                if line.startswith("$ "):
                    command = line[2:]
                    done = project.run("bash", "-c", command)
                    printed = done.stdout + done.stderr
                    if "--dry-run" in command:
                        assert "Nothing to be done" in printed, command
                else:
                    assert line in printed
        elif kind == "diff":
            insert(file, text)
        elif name == "dvc.yaml":
            content = file.read_text()
            file.write_text(content.replace("\nstages:\n", f"\nstages:\n{text}\n", 1))
        else:
            file.parent.mkdir(exist_ok=True)
            before = file.read_text() if file.exists() else ""
            file.write_text(f"{before}\n\n{text}" if before else text)


def insert(file: Path, diff: str) -> None:
    """Apply a diff; its unchanged and removed lines have to be in the file, once."""
    lines = diff.splitlines(keepends=True)
    before = "\n" + "".join(line[1:] for line in lines if line[0] != "+")
    after = "\n" + "".join(line[1:] for line in lines if line[0] != "-")
    content = file.read_text()
    assert content.count(before) == 1, f"{file}: not exactly one {before!r}"
    file.write_text(content.replace(before, after))


def sections(*headings: str) -> str:
    """Return the sections of the page with these headings."""
    page = (ROOT / "docs/extending.md").read_text()
    contents = dict(each.split("\n", 1) for each in page.split("\n## ")[1:])
    return "\n".join(contents[heading] for heading in headings)


def test_the_stages_that_the_page_shows_run_in_both_engines(
    smoke_run: Project, tmp_path: Path
) -> None:
    project = copy_project(smoke_run, tmp_path / "study")
    follow(
        project,
        sections("A rule for Snakemake only", "A stage for both engines", "A stage of the study"),
    )
    own = project.root / "results/own"
    assert int((own / "count.txt").read_text()) > 10
    assert (own / "largest.txt").read_text().strip() in {
        path.name for path in (project.root / "results/data/images").glob("*/*")
    }
    assert (snakemake_plan(project.root), dvc_plan(project.root)) == (set(), set())
    # Snakemake detects an edit of a rule that dvc.yaml does not have.
    rules = project.root / "workflow/rules/own.smk"
    rules.write_text(rules.read_text().replace("wc -l", "wc -c"))
    printed = project.run("snakemake", "results/own/count.txt", "--dry-run").stdout
    assert "Code has changed since last execution" in printed


def test_the_figure_that_the_page_shows_is_drawn_and_reported(
    smoke_run: Project, tmp_path: Path
) -> None:
    project = copy_project(smoke_run, tmp_path / "study")
    follow(project, sections("Adding a figure"))
    figure = (project.root / "results/figures/weakest_class.svg").read_text()
    assert ">resnet (" in figure
    report = (project.root / "results/report.html").read_text()
    assert report.count('<figure class="chart weakest_class">') == 1


def test_the_source_and_the_backbone_that_the_page_shows_are_used(
    smoke_run: Project, tmp_path: Path
) -> None:
    project = copy_project(smoke_run, tmp_path / "study")
    before = images_by_class(project)
    photos = project.root / "photos"
    photos.mkdir()
    for number, image in enumerate((project.root / "results/data/images").glob("*/*/*")):
        shutil.copy(image, photos / f"{image.parent.name}_{number}{image.suffix}")
    follow(project, sections("Adding a source", "Adding a backbone"))
    assert images_by_class(project) == before
    assert (project.root / "results/weights/repvit.safetensors").exists()


def images_by_class(project: Project) -> dict[str, int]:
    """Return the number of images of each class in the manifest."""
    with (project.root / "results/data/manifest.csv").open(newline="") as file:
        return dict(Counter(row["class"] for row in csv.DictReader(file)))
