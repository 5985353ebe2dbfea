"""Deploying a model, and returning to the one before it."""

from __future__ import annotations

import logging
from pathlib import Path

from carbench.core.errors import CarbenchError
from carbench.core.tables import read_json
from carbench.deploy.bundle.exported_model import MODEL_JSON
from carbench.deploy.bundle.loading import load_bundle
from carbench.deploy.rollout.releases import Releases
from carbench.deploy.rollout.running_service import RunningService

log = logging.getLogger("carbench")


def deploy(bundle: Path, int8: bool, releases: Releases, service: RunningService) -> Path:
    """Deploy an exported folder, unless it is the current release already; return the release.

    If the service does not serve it in time, the release before becomes current again.

    Args:
        bundle: the exported folder.
        int8: whether the service runs with ``--int8``.
        releases: where to deploy to.
        service: the service that reads the folder.

    Raises:
        CarbenchError: the folder is damaged, another deployment is in progress, or the service does
            not serve the model.
    """
    with releases.lock():
        service.require_access()
        current = releases.current
        if current is not None and _is_same(current, bundle, int8):
            service.load(read_json(current / MODEL_JSON))
            return current
        release = releases.add(bundle, int8)
        _activate(release, releases, service)
        releases.remove_old()
        return release


def roll_back(releases: Releases, service: RunningService) -> Path:
    """Return to the release that the current one has replaced; return that release.

    Raises:
        CarbenchError: there is none, or as for :func:`deploy`.
    """
    with releases.lock():
        service.require_access()
        current = releases.current
        before = releases.previous(current) if current else None
        if before is None:
            raise CarbenchError(
                releases.folder,
                found="no release before the current one" if current else "no release",
                expected="the release that the current one has replaced",
                fix="deploy the model that you want: `carbench deploy BUNDLE --to FOLDER`",
            )
        _activate(before, releases, service)
        return before


def _is_same(release: Path, bundle: Path, int8: bool) -> bool:
    """Return whether an undamaged release is a copy of an exported folder."""
    try:
        metadata = load_bundle(release, int8).model.metadata
        return metadata == load_bundle(bundle, int8).model.metadata
    except CarbenchError:
        return False


def _activate(release: Path, releases: Releases, service: RunningService) -> None:
    """Switch to a release; switch back if the service does not serve it in time."""
    before = releases.current
    releases.switch(release)
    try:
        service.load(read_json(release / MODEL_JSON))
    except BaseException:  # also Ctrl-C
        if before is not None:  # else the service can still be started with the first release
            _switch_back(before, releases, service)
        raise


def _switch_back(release: Path, releases: Releases, service: RunningService) -> None:
    releases.switch(release)
    try:
        service.load(read_json(release / MODEL_JSON))
    except CarbenchError as error:
        log.error("switched back to %s, but: %s", release.name, error)
    else:
        log.warning("switched back to %s%s", release.name, ", which is served" * bool(service.url))
