"""Why a request gets no answer: a status and a sentence."""

from __future__ import annotations

RETRY = {"Retry-After": "1"}
BUSY = "The service is busy with other images; try again in a second."
LATE = "The work was not done in time; send fewer or smaller images, or try again later."


class RefusedError(Exception):
    """A request that is not answered.

    Args:
        status: of HTTP.
        sentence: what is wrong and, where it helps, what to do.
        close: whether the connection ends, because the rest of the request is not read.
    """

    def __init__(self, status: int, sentence: str, close: bool = False) -> None:
        super().__init__(sentence)
        self.status = status
        self.close = close

    @property
    def headers(self) -> dict[str, str]:
        """Headers of the response."""
        headers = dict(RETRY) if self.status == 503 else {}
        return headers | ({"Connection": "close"} if self.close else {})
