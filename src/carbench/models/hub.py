"""Files of a Hugging Face repository, at a pinned revision, through the hub's own client.

huggingface_hub resumes broken downloads, tries again when the hub is busy, and asks nothing when a
pinned file is cached. It takes a damaged body of the right length for the file, so that the
content is compared here.
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
class Fetched:
    """Paths, in the hub client's cache, of a model's weights and of what describes it."""

    weights: Path
    config: Path


def fetch(pin: WeightsHub, key: str, cache: Path | None = None) -> Fetched:
    """Return the pinned files, downloaded unless they are cached.

    Args:
        pin: repository, revision and content.
        key: of params.yaml, for errors.
        cache: where to keep what is not yet in the hub client's own cache; None: there.

    Raises:
        CarbenchError: the hub cannot be reached, has no such thing or keeps it from us, or what
            came is not what was pinned.
    """
    weights = _file(pin, WEIGHTS, key, cache)
    if file_hash(weights) != pin.sha256:
        log.warning("%s of %s is damaged or not the pinned one: downloading anew", WEIGHTS, pin.hub)
        weights = _file(pin, WEIGHTS, key, cache, anew=True)
    digest = file_hash(weights)
    if digest != pin.sha256:
        raise CarbenchError(
            "params.yaml",
            key=f"{key}.sha256",
            found=f"{WEIGHTS} of {pin.hub} at {pin.revision} with sha256 {digest}",
            expected=pin.sha256,
            fix=f"run again if the download was damaged; else pin what the hub has: "
            f"`carbench pin {pin.hub}` prints it",
        )
    return Fetched(weights, _file(pin, CONFIG, key, cache))


def newest(repository: str, key: str) -> WeightsHub:
    """Ask the hub for a repository's newest revision and the sha256 of its weights.

    Raises:
        CarbenchError: as :func:`fetch`; or the repository has no model.safetensors.
    """
    from huggingface_hub import HfApi

    try:
        info = HfApi().model_info(repository, files_metadata=True)
    except Exception as error:
        raise _explained(repository, key, error) from None
    found = [
        file.lfs.sha256 for file in info.siblings or [] if file.rfilename == WEIGHTS and file.lfs
    ]
    if not found or not info.sha:
        raise CarbenchError(
            "params.yaml",
            key=key,
            found=f"no {WEIGHTS} in {repository}",
            expected="a repository that timm has written",
            fix="name another repository, or a file: weights: {file: PATH, sha256: HEX}",
        )
    return WeightsHub(hub=repository, revision=info.sha, sha256=found[0])


def _file(pin: WeightsHub, name: str, key: str, cache: Path | None, anew: bool = False) -> Path:
    from huggingface_hub import hf_hub_download, try_to_load_from_cache
    from huggingface_hub.utils.tqdm import disable_progress_bars

    if cache and not anew:
        kept = try_to_load_from_cache(pin.hub, name, revision=pin.revision)
        if isinstance(kept, str):
            return Path(kept)
    if not is_visible():
        disable_progress_bars()
    try:
        path = hf_hub_download(
            pin.hub, name, revision=pin.revision, force_download=anew, cache_dir=cache
        )
    except Exception as error:
        raise _explained(f"{name} of {pin.hub} at {pin.revision}", key, error) from None
    return Path(path)


def _explained(what: str, key: str, error: Exception) -> CarbenchError:
    """Say what the client's errors mean; the hub's answer may stand behind several of them."""
    from huggingface_hub import constants

    status = next(filter(None, map(_status, _chain(error))), None)
    if status in (401, 403):
        found = f"{what}: permission refused (status {status})"
        fix = "accept the repository's terms on its page, and log in with `hf auth login`"
    elif status == 404:
        found = f"{what}: no such repository, revision or file (status 404)"
        fix = "correct hub and revision; `carbench pin OWNER/NAME` prints the newest"
    elif constants.HF_HUB_OFFLINE:
        found = f"{what}: not in the local cache, and HF_HUB_OFFLINE is set"
        fix = "run this stage once where there is a network"
    else:
        said = f"status {status}" if status else " ".join(str(error).split())[:200]
        found = f"{what}: the hub could not be reached, or broke off ({said})"
        fix = "check the network and run again: what was downloaded is kept"
    return CarbenchError("params.yaml", key=key, found=found, expected="a download", fix=fix)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _status(error: Any) -> int | None:
    status = getattr(getattr(error, "response", None), "status_code", None)
    return status if isinstance(status, int) else None
