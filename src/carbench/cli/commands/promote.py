"""carbench promote STAGE: give the exported model a version, and assign the version to a stage.

    carbench promote prod                     # the model in results/export
    carbench promote prod --version v1.0.0    # a version that is registered already: roll back

Versions and stages are git tags of GTO, which `dvc artifacts get REPOSITORY model --stage prod`
understands. What neither checks is checked before: that the exported folder is undamaged and up to
date, that the commit has everything it was made from, and that DVC's remote has it.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from carbench.core.errors import CarbenchError

if TYPE_CHECKING:
    from carbench.engines.model_registry import RegisteredVersion


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    # Keeps the line breaks of the description.
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("stage", metavar="STAGE", help="for example staging or prod")
    parser.add_argument(
        "--version",
        metavar="vX.Y.Z",
        help="a registered version, or the one to register the exported model as (default: the "
        "newest one with its last number raised)",
    )


def run(args: argparse.Namespace) -> int:
    """Register the version unless it is registered, and assign the stage.

    Raises:
        CarbenchError: a check failed, and no tag was made; or the clock is wrong.
    """
    from carbench.cli.promotion.checks import require_export_at, require_pushed
    from carbench.engines.model_registry import (
        ARTIFACT,
        assign_stage,
        commit_in_stage,
        registered_versions,
        require_valid_stage,
    )

    root = Path()
    require_valid_stage(root, args.stage)
    known = {each.name: each for each in registered_versions(root)}
    if args.version in known:
        version = known[args.version]
        require_pushed(root, require_export_at(root, version.commit))
        registered = False
    else:
        version = _find_or_register(root, list(known.values()), args.version)
        registered = version.name not in known
    tags = [f"{ARTIFACT}@{version.name}"] if registered else []
    lines = [f"{version.name} is {version.message}, of commit {version.commit[:7]}"]
    if commit_in_stage(root, args.stage) == version.commit:
        lines.append(f"{args.stage} has this version already")
    else:
        tags.append(assign_stage(root, args.stage, version))
        lines.append(f"{args.stage} is {version.name} now")
    if tags:
        names = " ".join(f"'{tag}'" for tag in tags)
        lines.append(f"To publish it: git push origin HEAD {names}")
    sys.stdout.write("\n".join(lines) + "\n")
    return 0


def _find_or_register(
    root: Path, known: list[RegisteredVersion], name: str | None
) -> RegisteredVersion:
    """Check the exported model; return its version, which is registered if it has none."""
    from carbench.cli.promotion.checks import (
        FOLDER,
        export_at,
        require_committed,
        require_current_export,
        require_export_at,
        require_pushed,
    )
    from carbench.deploy.bundle.loading import load_bundle
    from carbench.engines.model_registry import register_version

    model = load_bundle(root / FOLDER).model
    require_committed(root, require_current_export(root))
    content = require_export_at(root, "HEAD")
    require_pushed(root, content)
    for version in known:
        if export_at(root, version.commit) == content:
            if name is not None:
                raise CarbenchError(
                    f"carbench promote --version {name}",
                    found=f"a model that is registered as {version.name}",
                    expected="one version per model",
                    fix="omit --version",
                )
            return version
    return register_version(root, name, model.version)
