"""What a person told either engine to make again, whatever has been made before.

`snakemake --forcerun`, `--force` and `--forceall` are read where Snakemake parses the Snakefile and
handed to its jobs in the environment. `dvc repro --force` and `--no-run-cache` (also of `dvc exp
run`) never reach a stage's command; they are read from the command line of the `dvc` above it.
"""

from __future__ import annotations

import os
import re
from pathlib import PurePath

from carbench.interop.internals import dvc_forces, snakemake_forces

# Stages, jobs or outputs, by commas, or "all".
AGAIN = "CARBENCH_AGAIN"


def pass_on(words: list[str]) -> None:
    """Tell the jobs of this process what Snakemake's command line forces."""
    # Only where something may be: Snakemake's parser takes a sixth of a second.
    asking = [word for word in words if word.startswith(("-R", "-f", "-F", "--fo"))]
    os.environ[AGAIN] = ",".join(sorted(snakemake_forces(words))) if asking else ""


def is_forced(names: set[str]) -> bool:
    """Say whether a job is to be made again; ``names``: its own, its stage's and its outputs'."""
    if {"all", *names} & set(os.environ.get(AGAIN, "").split(",")):
        return True
    import psutil

    for parent in psutil.Process().parents():
        try:
            words = parent.cmdline()
        except psutil.Error:
            continue
        dvc = next((at for at, word in enumerate(words) if PurePath(word).name == "dvc"), None)
        if dvc is not None:
            return _asks(words[dvc + 1 :]) and dvc_forces(words[dvc + 1 :])
    return False


def _asks(words: list[str]) -> bool:
    """Say whether one of DVC's options may force; its parser takes half a second."""
    options = [word for word in words if word.startswith("-")]
    return any(re.match(r"-[a-zA-Z]*f|--f|--no-r", option) for option in options)
