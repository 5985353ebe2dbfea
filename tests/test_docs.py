"""What the README and the docs tell a person to type exists."""

from __future__ import annotations

import re
import sys
import tomllib

import grimp
import pytest
import yaml

from carbench.engines.engine_jobs import dvc_jobs, snakemake_jobs
from conftest import ROOT, Project, locked_versions

PAGES = [*sorted(ROOT.glob("*.md")), *sorted(ROOT.glob("docs/**/*.md"))]
# Files that a reader writes.
TO_BE_WRITTEN = ("presets/NAME.yaml", "scripts/NAME.py", "workflow/rules/own.smk")
TEXT = "\n".join(page.read_text() for page in PAGES)


def test_make_targets_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))
    named = set(re.findall(r"(?:`|\$ )make ([a-z-]+)", TEXT))
    assert {"run", "test"} <= named <= targets


def test_workflows_run_make_targets_on_the_supported_versions_of_python() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))
    files = [*ROOT.glob(".github/workflows/*.yml"), *ROOT.glob(".github/actions/*/action.yml")]
    run = set(re.findall(r"run: make ([a-z-]+)", "\n".join(path.read_text() for path in files)))
    assert {"lint", "test-fast"} <= run <= targets
    ci = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())
    oldest = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"]
    assert ci["jobs"]["quick"]["strategy"]["matrix"]["python"][0] == oldest.removeprefix(">=")


def test_files_exist() -> None:
    named = set(re.findall(r"(?:presets|scripts|docs|workflow)/[\w/.-]+", TEXT))
    assert named
    for path in named:
        path = path.rstrip(".")
        assert (ROOT / path).exists() or path in TO_BE_WRITTEN, path


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: object) -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):  # type: ignore[attr-defined]
        assert (page.parent / target).exists(), target  # type: ignore[attr-defined]


def test_the_readmes_stages_and_keys_exist(shipped: Project) -> None:
    readme = (ROOT / "README.md").read_text()
    stages = re.findall(r"dvc repro (\w+@[\w-]+)", readme)
    assert stages
    assert set(stages) <= set(dvc_jobs(shipped.root))
    files = re.findall(r"snakemake (results/\S+?)`", readme)
    outputs = {path for job in snakemake_jobs(shipped.root).values() for path in job.outputs}
    assert files
    assert set(files) <= outputs
    old = re.search(r"sed -i 's/([^/]+)/", readme)
    assert old
    assert (shipped.root / "params.yaml").read_text().count(old[1]) == 1


def test_the_changelog_and_the_citation_know_the_version() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == project["version"]
    assert citation["license"] == project["license"]
    headings = re.findall(r"^## (.*)$", (ROOT / "CHANGELOG.md").read_text(), re.M)
    assert headings[0] == "Unreleased"
    assert headings[1] == f"{project['version']} - {citation['date-released']}"


def test_the_lock_names_versions_and_no_host() -> None:
    lock = (ROOT / "requirements.lock").read_text()
    assert "://" not in lock
    requirements = [line for line in lock.splitlines() if re.match(r"\w", line)]
    assert all("==" in line for line in requirements)
    assert any(line.startswith("torch==") for line in requirements)


def test_the_conda_environment_has_the_locks_versions() -> None:
    locked = locked_versions(ROOT)
    environment = (ROOT / "envs/carbench.yaml").read_text()
    pins = dict(re.findall(r"^  - ([\w.-]+)=([\w.]+)$", environment, re.M))
    assert pins.pop("python") == "3.11"
    assert len(pins) > 10
    for name, version in pins.items():
        name = re.sub("[._]", "-", {"pytorch": "torch"}.get(name, name))
        assert locked[name] == version, name


# Modules whose package has another name, or that another package of the environment brings along.
PACKAGES = {"PIL": "pillow", "ruamel": "ruamel-yaml", "torch": "pytorch", "matplotlib": "seaborn"}
BROUGHT_ALONG = {"markupsafe", "networkx", "requests", "voluptuous", "yaml"}


def test_the_conda_environment_has_what_a_job_imports() -> None:
    graph = grimp.build_graph("carbench", include_external_packages=True)
    environment = (ROOT / "envs/carbench.yaml").read_text()
    pins = {re.sub("[._]", "-", name) for name in re.findall(r"^  - ([\w.-]+)=", environment, re.M)}
    code = {
        f"carbench.{name.removeprefix('src/carbench/').removesuffix('.py').replace('/', '.')}"
        for name in re.findall(r"- (src/carbench/\S+)", (ROOT / "dvc.yaml").read_text())
    } | {"carbench.engines.job_run", "carbench.params.study"}
    modules: set[str] = set()
    waiting = set().union(*({each, *graph.find_descendants(each)} for each in code))
    while waiting:
        module = waiting.pop()
        modules.add(module)
        waiting |= graph.find_modules_directly_imported_by(module) - modules
    imported = {each for each in modules if "carbench" not in each} - sys.stdlib_module_names
    missing = {re.sub("_", "-", PACKAGES.get(each, each)) for each in imported} - pins
    assert not missing - BROUGHT_ALONG
