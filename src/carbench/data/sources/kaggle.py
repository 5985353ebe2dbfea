"""A pinned version of a Kaggle dataset, through Kaggle's own client.

kagglehub downloads anonymously where the dataset is public, checks the body's checksum, resumes a
broken download on the next call and asks nothing when the version is cached. It gives up at once
when Kaggle answers "too many requests" or breaks off, so those are tried again here.
"""

from __future__ import annotations

import logging
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

log = logging.getLogger("carbench")

# Long enough to outlast Kaggle's limit of requests a minute.
ATTEMPTS = 6
FIRST_WAIT_SECONDS = 2.0
LONGEST_WAIT_SECONDS = 40.0


def download(dataset: str, version: int) -> Path:
    """Return the folder that holds version ``version`` of ``owner/name``, downloaded if need be.

    Raises:
        CarbenchError: no such dataset or version, no permission, no network, or a download that
            stays broken.
    """
    handle = f"{dataset}/versions/{version}"
    try:
        return _download(handle)
    except RetryError as error:
        raise _explained(handle, error.last_attempt.exception()) from None
    except Exception as error:
        raise _explained(handle, error) from None


def _status(error: BaseException | None) -> int | None:
    response = getattr(error, "response", None)
    status = getattr(response, "status_code", None)
    return status if isinstance(status, int) else None


def _is_passing(error: BaseException) -> bool:
    """Whether trying again may help: rate limits, server faults, broken or corrupt transfers."""
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
    retry=retry_if_exception(_is_passing),
    stop=stop_after_attempt(ATTEMPTS),
    wait=wait_exponential_jitter(multiplier=FIRST_WAIT_SECONDS, max=LONGEST_WAIT_SECONDS),
    before_sleep=before_sleep_log(log, logging.WARNING),
)
def _download(handle: str) -> Path:
    import kagglehub

    return Path(kagglehub.dataset_download(handle))


def _explained(handle: str, error: BaseException | None) -> CarbenchError:
    status = _status(error)
    found, fix = {
        401: ("401, credentials refused", "renew the token in ~/.kaggle/kaggle.json"),
        403: (
            "403, no permission",
            "accept the dataset's terms on its page, or use a Kaggle token",
        ),
        404: ("404, no such dataset or version", "correct data.kaggle in params.yaml"),
        429: ("429, too many requests", "wait some minutes and run again; it resumes"),
    }.get(
        status or 0,
        (
            f"{type(error).__name__} ({' '.join(str(error).split())[:120]})",
            "check the network and run again; it resumes. Or download the zip by hand and use "
            "data.source: archive",
        ),
    )
    return CarbenchError(
        f"Kaggle dataset {handle}", key="data.kaggle", found=found, expected="its files", fix=fix
    )
