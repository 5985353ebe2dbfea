"""The image of envs/Dockerfile.train, built and run."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from conftest import Project, copy_repository, repeatable, results
from containers import ContainerEngine, assert_locked

pytestmark = pytest.mark.slow

APPTAINER = """\
#!/bin/sh
# Runs `apptainer exec --home FOLDER ... IMAGE sh -c COMMAND` in the image of that name.
[ "$1" = --version ] && echo "apptainer version 1.3.6" && exit
echo "$1" >> "$0.log"
while [ "$1" != "{image}" ]; do shift; done
shift
exec docker run --rm --network none --user 0:0 \\
  --env-host --env PATH=/opt/carbench/bin:/usr/local/bin:/usr/bin:/bin \\
  --volume "$PWD:$PWD" --workdir "$PWD" carbench-train "$@"
"""


IMAGE = "carbench-train"


def test_the_image_of_whole_studies(
    engine: ContainerEngine,
    clone: Path,
    container: str,
    smoke_run: Project,
    tmp_path: Path,
    subtests: pytest.Subtests,
) -> None:
    """One test, as the image is large and takes minutes to build."""
    options = ("--build-arg", "VERSION=1.2.3", "--tag", IMAGE)
    engine.docker("build", "--file", "envs/Dockerfile.train", *options, ".", cwd=clone)
    with subtests.test("locked versions"):
        present = {"carbench", "torch", "timm", "snakemake", "dvc", "dvc-s3"}
        assert_locked(engine, IMAGE, clone, present, {"pytest", "pip"})
    with subtests.test("a study has the bytes of one outside"):
        run_study(engine, container, smoke_run, tmp_path / "study")
    with subtests.test("a clone is continued by any user"):
        continue_study(engine, smoke_run, tmp_path / "clone")
    with subtests.test("rules run with apptainer"):
        run_rules(engine, smoke_run, tmp_path / "rules")


def run_study(engine: ContainerEngine, container: str, smoke_run: Project, folder: Path) -> None:
    folder.mkdir()
    script = "carbench init smoke && snakemake --cores 2 --quiet rules && carbench verify"
    run = ("run", "--name", container, "--network", "none", IMAGE, "sh", "-c", script)
    engine.docker(*run)
    engine.docker("cp", f"{container}:/carbench/results", str(folder / "results"))
    assert repeatable(Project(folder)) == repeatable(smoke_run)


def continue_study(engine: ContainerEngine, smoke_run: Project, folder: Path) -> None:
    study = shutil.copytree(smoke_run.root, folder, symlinks=True)
    for path in (study, *study.rglob("*")):
        os.chown(path, 4321, 4321, follow_symlinks=False)
    script = "snakemake --dry-run --quiet all; dvc status; carbench job report; id --user"
    run = ("run", "--rm", "--network", "none", "--user", "4321:4321")
    seen = engine.docker(*run, "--volume", f"{study}:/carbench", IMAGE, "sh", "-c", script)
    assert "Data and pipelines are up to date." in seen
    assert seen.endswith("4321")
    assert results(Project(study)) == results(smoke_run)


def run_rules(engine: ContainerEngine, smoke_run: Project, folder: Path) -> None:
    """Apptainer itself is in no package of Debian: a script takes its place."""
    folder.mkdir()
    image = folder / "carbench.sif"
    image.touch()
    program = engine.programs / "apptainer"
    program.write_text(APPTAINER.format(image=image))
    program.chmod(0o755)
    study = copy_repository(folder / "study")
    shutil.copy(smoke_run.root / "params.yaml", study.root)
    files = ("results/split/split.csv", "results/pack/index.csv")
    command = ("snakemake", "--cores", "2", "--sdm", "apptainer", "--quiet", "rules", "--", *files)
    refused = engine.run(*command, cwd=study.root, check=False)
    assert "found no CARBENCH_IMAGE" in refused.stderr
    engine.run(*command, cwd=study.root, CARBENCH_IMAGE=str(image))
    for file in files:
        assert (study.root / file).read_bytes() == (smoke_run.root / file).read_bytes()
    assert program.with_suffix(".log").read_text().split() == ["exec"] * 4  # fetch to pack
