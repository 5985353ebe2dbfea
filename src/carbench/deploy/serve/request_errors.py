"""Rejected requests: HTTP status and message."""

from __future__ import annotations

RETRY_HEADERS = {"Retry-After": "1"}
BUSY_MESSAGE = "The service is busy with other requests; try again in a second."
TIMEOUT_MESSAGE = (
    "The request was not completed in time; send fewer or smaller images, or try again later."
)


class RejectedRequestError(Exception):
    """A request that the service rejects.

    Args:
        status: HTTP status code.
        message: what is wrong and, if useful, how to fix it.
        close: whether to close the connection because the rest of the request is not read.
    """

    def __init__(self, status: int, message: str, close: bool = False) -> None:
        super().__init__(message)
        self.status = status
        self.close = close

    @property
    def headers(self) -> dict[str, str]:
        """Response headers."""
        headers = dict(RETRY_HEADERS) if self.status == 503 else {}
        return headers | ({"Connection": "close"} if self.close else {})
