"""What a person told either engine to make again, whatever has been made before.

`snakemake --forcerun`, `--force` and `--forceall` are read where Snakemake parses the Snakefile and
handed to its jobs in the environment, and in a file, as a cluster may not pass the environment on.
`dvc repro --force` and `--no-run-cache` (also of `dvc exp run`) never reach a stage's command; they
are read from the command lines of the `dvc` processes above it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path, PurePath

from pydantic import TypeAdapter

from carbench.engines.dvc_internals import forces_dvc_stages
from carbench.engines.state_files import read_state, write_state

# Stages, jobs or outputs, by commas, or "all".
FORCED_VARIABLE = "CARBENCH_AGAIN"
# The same, of the run of Snakemake that is at work or was last.
RUN = Path(".carbench/forced.json")
VERSION = 1
FORM = TypeAdapter(list[str])


def publish_forced_jobs(root: Path, targets: Iterable[str], read_only: bool) -> None:
    """Tell the jobs of this run what Snakemake's command line forces.

    Args:
        root: the repository.
        targets: rules and files.
        read_only: whether the run starts no jobs.
    """
    forced = sorted(targets)
    os.environ[FORCED_VARIABLE] = ",".join(forced)
    if not read_only:
        write_state(root / RUN, VERSION, forced)


def load_forced_jobs(root: Path) -> None:
    """Tell the job of this process what its run forces: a cluster may not pass on variables."""
    forced = read_state(root / RUN, VERSION, FORM)
    os.environ[FORCED_VARIABLE] = ",".join(forced or [])


def is_forced(names: set[str]) -> bool:
    """Say whether a job is to be made again; ``names``: its own, its stage's and its outputs'."""
    if {"all", *names} & set(os.environ.get(FORCED_VARIABLE, "").split(",")):
        return True
    import psutil

    for parent in psutil.Process().parents():
        try:
            words = parent.cmdline()
        except psutil.Error:
            continue
        dvc = next((at for at, word in enumerate(words) if _is_dvc(word)), None)
        if dvc is not None and _asks(words[dvc + 1 :]) and forces_dvc_stages(words[dvc + 1 :]):
            return True
    return False


def _is_dvc(word: str) -> bool:
    """Say whether a word of a command line is the program `dvc`, or what `python -m dvc` runs."""
    return PurePath(word).name == "dvc" or PurePath(word).parts[-2:] == ("dvc", "__main__.py")


def _asks(words: list[str]) -> bool:
    """Say whether one of DVC's options may force; its parser takes half a second."""
    options = [word for word in words if word.startswith("-")]
    return any(re.match(r"-[a-zA-Z]*f|--f|--no-r", option) for option in options)
