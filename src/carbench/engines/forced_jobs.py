"""Jobs that the user forces to run although their results are up to date or cached.

`snakemake --forcerun`, `--force` and `--forceall` are read when Snakemake parses the Snakefile.
They are passed to the jobs of that run in an environment variable, which the Snakefile declares
(`envvars:`) for clusters that do not pass on the environment. `dvc repro --force` and
`--no-run-cache` (also of `dvc exp run`) are not passed to a stage's command; they are read from the
command lines of the parent `dvc` processes.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import PurePath

from carbench.engines.dvc_internals import forces_dvc_stages

# Stages, jobs or outputs, separated by commas, or "all".
FORCED_VARIABLE = "CARBENCH_AGAIN"


def publish_forced_jobs(targets: Iterable[str]) -> None:
    """Pass what Snakemake's command line forces to the jobs of this run.

    Args:
        targets: rules and files.
    """
    os.environ[FORCED_VARIABLE] = ",".join(sorted(targets))


def is_forced(names: set[str]) -> bool:
    """Return whether a job is forced to run.

    Args:
        names: the job's name, its stage's and its outputs'.
    """
    if {"all", *names} & set(os.environ.get(FORCED_VARIABLE, "").split(",")):
        return True
    import psutil

    for parent in psutil.Process().parents():
        try:
            words = parent.cmdline()
        except psutil.Error:
            continue
        program = next((index for index, word in enumerate(words) if _is_dvc(word)), None)
        if program is None:
            continue
        arguments = words[program + 1 :]
        if _may_force(arguments) and forces_dvc_stages(arguments):
            return True
    return False


def _is_dvc(word: str) -> bool:
    """Return whether a word of a command line is the program `dvc`, or its module's main file."""
    return PurePath(word).name == "dvc" or PurePath(word).parts[-2:] == ("dvc", "__main__.py")


def _may_force(arguments: list[str]) -> bool:
    """Return whether an option may force; saves DVC's parser, which takes half a second to load."""
    options = [word for word in arguments if word.startswith("-")]
    return any(re.match(r"-[a-zA-Z]*f|--f|--no-r", option) for option in options)
