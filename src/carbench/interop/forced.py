"""What a person told either engine to make again, whatever has been made before.

`snakemake --forcerun`, `--force` and `--forceall` are read where Snakemake parses the Snakefile and
handed to its jobs in the environment. `dvc repro --force` and `--no-run-cache` (also of `dvc exp
run`) never reach a stage's command; they are read from the command line of the `dvc` above it.
"""

from __future__ import annotations

import os
from pathlib import PurePath
from typing import Any

# Stages, jobs or outputs, by commas, or "all".
AGAIN = "CARBENCH_AGAIN"


def pass_on(settings: Any) -> None:
    """Tell the jobs what Snakemake forces; ``settings``: its ``DAGSettings``."""
    forced = set(settings.forcerun)
    if settings.forcetargets:
        forced |= set(settings.targets)
    if settings.forceall:
        forced = {"all"}
    os.environ[AGAIN] = ",".join(sorted(map(str, forced)))


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
            return _dvc_forces(words[dvc + 1 :])
    return False


def _dvc_forces(words: list[str]) -> bool:
    # DVC's own parser knows its abbreviations, but takes half a second to load.
    if not any(word.startswith("-") and ("f" in word or "no" in word) for word in words):
        return False
    from dvc.cli.parser import get_main_parser

    asked, _ = get_main_parser().parse_known_args(words)
    return bool(getattr(asked, "force", False) or getattr(asked, "no_run_cache", False))
