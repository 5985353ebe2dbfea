"""Downloads files of a Hugging Face repository at a pinned revision, with the hub's own client.

huggingface_hub resumes interrupted downloads, retries when the hub is busy, and makes no request if
a pinned file is cached. It does not detect a corrupt body of the right length; this module verifies
the checksum.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from carbench.core.errors import CarbenchError
from carbench.core.progress import is_visible
from carbench.core.provenance import file_hash
from carbench.params.train import WeightsHub

log = logging.getLogger("carbench")

WEIGHTS = "model.safetensors"
CONFIG = "config.json"


@dataclass(frozen=True)
class HubFiles:
    """Paths of the weights and the configuration of a model in the hub client's cache."""

    weights: Path
    config: Path


def fetch_pinned(pin: WeightsHub, key: str, cache: Path | None = None) -> HubFiles:
    """Return the pinned files, downloaded unless they are cached.

    Args:
        pin: repository, revision and checksum.
        key: key in params.yaml, for error messages.
        cache: folder for files that are not in the hub client's own cache; None: use that cache.

    Raises:
        CarbenchError: the hub cannot be reached, a file does not exist or access is denied, or the
            content is not the pinned one.
    """
    weights = _download(pin, WEIGHTS, key, cache)
    if file_hash(weights) != pin.sha256:
        log.warning(
            "%s of %s is damaged or not the pinned one: downloading it again", WEIGHTS, pin.hub
        )
        weights = _download(pin, WEIGHTS, key, cache, again=True)
    digest = file_hash(weights)
    if digest != pin.sha256:
        raise CarbenchError(
            "params.yaml",
            key=f"{key}.sha256",
            found=f"{WEIGHTS} of {pin.hub} at {pin.revision} with sha256 {digest}",
            expected=pin.sha256,
            fix="run again if the download was damaged; otherwise pin the current content: "
            f"`carbench pin {pin.hub}` prints it",
        )
    return HubFiles(weights, _download(pin, CONFIG, key, cache))


def newest_pin(repository: str, key: str) -> WeightsHub:
    """Return the newest revision of a repository and the sha256 of its weights.

    Raises:
        CarbenchError: as :func:`fetch_pinned`; or the repository has no model.safetensors.
    """
    from huggingface_hub import HfApi

    try:
        info = HfApi().model_info(repository, files_metadata=True)
    except Exception as error:
        raise _hub_error(repository, key, error) from None
    found = [
        file.lfs.sha256 for file in info.siblings or [] if file.rfilename == WEIGHTS and file.lfs
    ]
    if not found or not info.sha:
        raise CarbenchError(
            "params.yaml",
            key=key,
            found=f"no {WEIGHTS} in {repository}",
            expected="a repository in timm's format",
            fix="name another repository, or a file: weights: {file: PATH, sha256: HEX}",
        )
    return WeightsHub(hub=repository, revision=info.sha, sha256=found[0])


def _download(
    pin: WeightsHub, name: str, key: str, cache: Path | None, again: bool = False
) -> Path:
    from huggingface_hub import hf_hub_download, try_to_load_from_cache
    from huggingface_hub.utils.tqdm import disable_progress_bars

    if cache and not again:
        cached = try_to_load_from_cache(pin.hub, name, revision=pin.revision)
        if isinstance(cached, str):
            return Path(cached)
    if not is_visible():
        disable_progress_bars()
    try:
        path = hf_hub_download(
            pin.hub, name, revision=pin.revision, force_download=again, cache_dir=cache
        )
    except Exception as error:
        raise _hub_error(f"{name} of {pin.hub} at {pin.revision}", key, error) from None
    return Path(path)


def _hub_error(what: str, key: str, error: Exception) -> CarbenchError:
    """Return the error to show for an exception of the client."""
    from huggingface_hub import constants

    status = next(filter(None, map(_status, _causes(error))), None)
    if status in (401, 403):
        found = f"{what}: permission denied (status {status})"
        fix = "accept the repository's terms on its page, and log in with `hf auth login`"
    elif status == 404:
        found = f"{what}: no such repository, revision or file (status 404)"
        fix = "correct hub and revision; `carbench pin OWNER/NAME` prints the newest"
    elif constants.HF_HUB_OFFLINE:
        found = f"{what}: not in the local cache, and HF_HUB_OFFLINE is set"
        fix = "run this stage once with network access"
    else:
        reason = f"status {status}" if status else " ".join(str(error).split())[:200]
        found = f"{what}: the hub could not be reached, or the transfer was interrupted ({reason})"
        fix = "check the network and run again; the download resumes"
    return CarbenchError("params.yaml", key=key, found=found, expected="a download", fix=fix)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _status(error: Any) -> int | None:
    status = getattr(getattr(error, "response", None), "status_code", None)
    return status if isinstance(status, int) else None
