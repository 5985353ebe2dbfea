"""kaggle: a pinned version of a Kaggle dataset, downloaded with Kaggle's own client.

kagglehub downloads public datasets anonymously, verifies the checksum, resumes an interrupted
download on the next call, and makes no request if the version is cached. It does not retry after
"too many requests" or an interrupted transfer; this module does.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tenacity import (
    RetryError,
    before_sleep_log,
    retry,
    retry_if_exception,
    stop_after_attempt,
    wait_exponential_jitter,
)

from carbench.core.errors import CarbenchError
from carbench.data.sources.folder import list_folder
from carbench.data.sources.listing import Listing
from carbench.params.data import DataParams

log = logging.getLogger("carbench")

# Together longer than the one minute over which Kaggle limits requests.
ATTEMPTS = 6
FIRST_WAIT_SECONDS = 2.0
LONGEST_WAIT_SECONDS = 40.0


@contextmanager
def open_source(params: DataParams, scratch: Path) -> Iterator[Listing]:
    """Yield the listing of the dataset `data.kaggle`."""
    folder = download_dataset(params.kaggle.dataset, params.kaggle.version)
    yield list_folder(folder, key="data.kaggle")


def download_dataset(dataset: str, version: int) -> Path:
    """Return the folder with a version of the dataset ``owner/name``; download it if necessary.

    Raises:
        CarbenchError: no such dataset or version, no permission, no network, or a download that
            fails repeatedly.
    """
    handle = f"{dataset}/versions/{version}"
    try:
        return _download(handle)
    except RetryError as error:
        raise _download_error(handle, error.last_attempt.exception()) from None
    except Exception as error:
        raise _download_error(handle, error) from None


def _status(error: BaseException | None) -> int | None:
    response = getattr(error, "response", None)
    status = getattr(response, "status_code", None)
    return status if isinstance(status, int) else None


def _is_transient(error: BaseException) -> bool:
    """Return whether a retry may help: rate limit, server error, broken or corrupt transfer."""
    import requests
    from kagglehub.exceptions import DataCorruptionError

    status = _status(error)
    if status is not None:
        return status == 429 or status >= 500
    broken = (
        requests.exceptions.ChunkedEncodingError,
        requests.exceptions.Timeout,
        DataCorruptionError,
    )
    return isinstance(error, broken)


@retry(
    retry=retry_if_exception(_is_transient),
    stop=stop_after_attempt(ATTEMPTS),
    wait=wait_exponential_jitter(multiplier=FIRST_WAIT_SECONDS, max=LONGEST_WAIT_SECONDS),
    before_sleep=before_sleep_log(log, logging.WARNING),
)
def _download(handle: str) -> Path:
    import kagglehub

    return Path(kagglehub.dataset_download(handle))


def _download_error(handle: str, error: BaseException | None) -> CarbenchError:
    status = _status(error)
    found, fix = {
        401: ("401, credentials refused", "renew the token in ~/.kaggle/kaggle.json"),
        403: (
            "403, no permission",
            "accept the dataset's terms on its page, or use a Kaggle token",
        ),
        404: ("404, no such dataset or version", "correct data.kaggle in params.yaml"),
        429: ("429, too many requests", "wait a few minutes and run again; the download resumes"),
    }.get(
        status or 0,
        (
            f"{type(error).__name__} ({' '.join(str(error).split())[:120]})",
            "check the network and run again; the download resumes. Or download the zip and set "
            "data.source: archive",
        ),
    )
    return CarbenchError(
        f"Kaggle dataset {handle}", key="data.kaggle", found=found, expected="its files", fix=fix
    )
