#!/usr/bin/env python3
"""Prints what a study reads and the training image lacks, one path per line.

These are params.yaml and the files and folders that it names: images, initial weights, tables. What
git tracks is in the image, which is built from the commit, and results are in the bucket.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

# The code of this clone, also where several share an environment.
sys.path.insert(0, "src")

from carbench.core.errors import CarbenchError
from carbench.core.params import read_yaml
from carbench.engines.dvc_yaml import PARAMS, read_jobs


def files_read() -> Iterator[str]:
    """Yield what the jobs of the study read and none of them makes."""
    jobs = read_jobs().values()
    # An output, and the folders that it is in: some jobs read the folder of several outputs.
    made = {str(path) for job in jobs for out in job.outs for path in (out, *Path(out).parents)}
    for path in {dep for job in jobs for dep in job.deps}:
        if path not in made and not made.intersection(map(str, Path(path).parents[:-1])):
            yield path
    for backbone in read_yaml(PARAMS)["backbones"].values():
        weights = backbone["weights"]
        if isinstance(weights, dict) and "file" in weights:
            yield str(weights["file"])


def missing_in_image() -> list[str]:
    """Return the paths.

    Raises:
        CarbenchError: one of them does not exist, or is outside of the clone.
    """
    missing = {str(PARAMS)}
    for path in files_read():
        if not Path(path).resolve().is_relative_to(Path.cwd().resolve()):
            raise CarbenchError(
                PARAMS,
                found=f"{path}, which is outside of this clone",
                expected="a path that exists on the VM, too",
                fix="copy it into the clone, for example below weights/, which git ignores, and "
                "name it there",
            )
        if not Path(path).exists():
            raise CarbenchError(
                PARAMS, found=f"nothing at {path}", expected="what it names", fix="correct it"
            )
        listed = subprocess.run(
            ["git", "ls-files", "--", path], capture_output=True, text=True, check=True
        )
        if not listed.stdout:
            missing.add(path)
    return sorted(missing)


if __name__ == "__main__":
    try:
        print("\n".join(missing_in_image()))
    except CarbenchError as error:
        sys.exit(f"cloud.sh: {error}")
