"""Image files out of a request: a form, or the bytes of one image."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from starlette.datastructures import Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from carbench.deploy.serve.receiving import Receiving
from carbench.deploy.serve.refusals import RefusedError

HOW = 'curl -X POST http://localhost:8000/v1/predict -F "image=@car.jpg"'
FORM = "multipart/form-data"
# Media types of a body that is one image. What it really is, the decoder decides.
RAW = (
    *("image/jpeg", "image/png", "image/webp", "image/gif", "image/bmp", "image/tiff"),
    "application/octet-stream",
)
CHUNK = 65_536
# It has a warning for each malformed form.
logging.getLogger("python_multipart").setLevel(logging.ERROR)


class _InMemory(MultiPartParser):
    """Keeps files in memory, whose size is limited: a full disk for temporary files costs none."""

    spool_max_size = 0  # of SpooledTemporaryFile: never written to disk


@asynccontextmanager
async def read_images(
    request: Request, receiving: Receiving, field: str, most: int
) -> AsyncIterator[list[bytes]]:
    """Receive the image files of a request.

    Args:
        request: a form with files in ``field``; if ``most`` is 1, also the bytes of an image.
        receiving: what receives the body.
        field: of the form.
        most: files.

    Raises:
        RefusedError: there is no file, there are too many, or the body was not received.
        ClientDisconnect: the client left.
    """
    kind = request.headers.get("content-type", "").split(";")[0].strip().lower()
    raw = most == 1 and kind in RAW
    if not raw and kind != FORM:
        found = f", not {kind!r}" if kind else ""
        or_raw = f", or of type {' or '.join(RAW)}," if most == 1 else ""
        raise RefusedError(415, f"The body has to be {FORM}{or_raw} with an image in it{found}.")
    async with receiving.body(request) as body:
        yield [body] if raw else await _files(request.headers, body, field, most)


async def _files(headers: Headers, body: bytes, field: str, most: int) -> list[bytes]:
    """Return the files in a form's field."""

    async def chunks() -> AsyncIterator[bytes]:
        for start in range(0, len(body), CHUNK):
            yield body[start : start + CHUNK]
            await asyncio.sleep(0)  # others are answered meanwhile

    try:
        # One more than are taken, so that the sentence is ours.
        form = await _InMemory(headers, chunks(), max_files=most + 1, max_fields=32).parse()  # type: ignore[arg-type]
    except MultiPartException as error:
        if "Too many files" in error.message:
            raise _too_many(most) from None
        raise RefusedError(400, f"The form cannot be read: {error.message}") from None
    files = form.getlist(field)
    if len(files) > most:
        raise _too_many(most)
    contents = [each.file.read() for each in files if isinstance(each, UploadFile)]
    if not files or len(contents) < len(files):
        found = ", ".join(repr(name) for name in form) or "no field"
        raise RefusedError(
            422, f"There is no file in the form field {field!r} (found {found}); send it as {HOW}."
        )
    return contents


def _too_many(most: int) -> RefusedError:
    images = "image is" if most == 1 else "images are"
    return RefusedError(413, f"At most {most} {images} accepted at a time.")


def described(field: str, many: bool) -> dict[str, Any]:
    """Return OpenAPI's description of such a request body."""
    file: dict[str, Any] = {"type": "string", "format": "binary"}
    files = {"type": "array", "items": file, "minItems": 1} if many else file
    form = {"type": "object", "required": [field], "properties": {field: files}}
    content: dict[str, Any] = {FORM: {"schema": form}}
    if not many:
        content |= {kind: {"schema": file} for kind in RAW}
    return {"requestBody": {"required": True, "content": content}}
