"""Versions and stages of the exported model, which GTO keeps in annotated git tags.

``model@v1.0.0`` registers a version at a commit, and ``model#prod#3`` assigns a stage to one. DVC
reads these tags: ``dvc artifacts get REPOSITORY model --stage prod``.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from carbench.core.errors import CarbenchError

# The name under `artifacts:` in dvc.yaml.
ARTIFACT = "model"


@dataclass(frozen=True)
class RegisteredVersion:
    """A version of the model: ``v1.0.0``, its commit, and the message of its tag."""

    name: str
    commit: str
    message: str


def require_valid_stage(root: Path, stage: str) -> None:
    """Check the name of a stage.

    Raises:
        CarbenchError: it is malformed, or not among the ones in the file .gto, if there is one.
    """
    from gto import api
    from gto.exceptions import GTOException

    with _errors():
        allowed = api.get_stages(str(root), allowed=True)
    try:
        parsed = api.parse_tag(f"{ARTIFACT}#{stage}#1").get("stage")
    except GTOException:
        parsed = None
    if parsed != stage or (allowed is not None and stage not in allowed):
        raise CarbenchError(
            "STAGE",
            found=repr(stage),
            expected=f"one of {', '.join(allowed)}" if allowed else "a name such as prod",
            fix="correct the name",
        )


def registered_versions(root: Path) -> list[RegisteredVersion]:
    """Return the versions that are registered in the clone, in no particular order."""
    from gto import api
    from gto.exceptions import ArtifactNotFound

    with _errors():
        try:
            versions = api.show(str(root), ARTIFACT, registered_only=True)
        except ArtifactNotFound:
            return []
    return [
        RegisteredVersion(each["version"], each["commit_hexsha"], each["message"])
        for each in versions
        if not each["discovered"]  # a commit that has a stage, but no version
    ]


def commit_in_stage(root: Path, stage: str) -> str | None:
    """Return the commit that DVC gets for a stage; None if the stage was never assigned."""
    from dvc.api import artifacts_show
    from dvc.exceptions import ArtifactNotFoundError

    try:
        commit: str = artifacts_show(ARTIFACT, stage=stage, repo=str(root))["rev"]
    except ArtifactNotFoundError:
        return None
    return commit


def register_version(root: Path, version: str | None, message: str) -> RegisteredVersion:
    """Register the commit that is checked out.

    Args:
        root: the repository.
        version: None: the newest version with its last number raised, or v0.0.1.
        message: message of the tag.

    Raises:
        CarbenchError: the version is taken or malformed, or the commit has another one.
    """
    from gto import api

    with _errors():
        made = api.register(str(root), ARTIFACT, "HEAD", version=version, message=message)
    return RegisteredVersion(made.version, made.commit_hexsha, message)


def assign_stage(root: Path, stage: str, version: RegisteredVersion) -> str:
    """Assign a stage to a version, also if it has had it before; return the name of the tag.

    Raises:
        CarbenchError: as for :func:`require_valid_stage`; or DVC does not consider the tag the
            newest one.
    """
    from gto import api

    with _errors():
        made = api.assign(
            *(str(root), ARTIFACT, stage),
            version=version.name,
            message=version.message,
            force=True,  # GTO would refuse to return to an earlier version
        )
    if commit_in_stage(root, stage) != version.commit:
        raise CarbenchError(
            made.tag,
            found=f"an earlier tag of stage {stage} with a later time",
            expected="times in the order of the tags: DVC takes the latest one",
            fix=f"check the clocks of the machines that promote, `git tag --delete '{made.tag}'`, "
            "and repeat the command",
        )
    return str(made.tag)


@contextmanager
def _errors() -> Iterator[None]:
    from gto.exceptions import GTOException
    from scmrepo.exceptions import SCMError

    try:
        yield
    except SCMError:
        raise CarbenchError(
            Path().absolute(),
            found="no git repository",
            expected="the clone of a study",
            fix="run the command in its root",
        ) from None
    except GTOException as error:
        raise CarbenchError(
            "the versions and stages in git's tags",
            found=" ".join(str(error).split()),
            expected="a version such as v1.0.0 and a stage such as prod",
            fix="correct the command; `gto show model` lists the versions",
        ) from None
