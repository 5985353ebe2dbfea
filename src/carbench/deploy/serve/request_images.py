"""Extracting image files from a request: a multipart form, or one image as the body."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from starlette.datastructures import Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from carbench.deploy.serve.request_bodies import BodyReceiver
from carbench.deploy.serve.request_errors import RejectedRequestError

EXAMPLE_COMMAND = 'curl -X POST http://localhost:8000/v1/predict -F "image=@car.jpg"'
FORM = "multipart/form-data"
# Media types of a body that is a single image. The decoder determines the actual format.
IMAGE_TYPES = (
    *("image/jpeg", "image/png", "image/webp", "image/gif", "image/bmp", "image/tiff"),
    "application/octet-stream",
)
CHUNK_BYTES = 65_536
# It logs a warning for each malformed form.
logging.getLogger("python_multipart").setLevel(logging.ERROR)


class _InMemory(MultiPartParser):
    """Form parser that keeps files in memory.

    The body size is limited, and requests do not fail when the disk for temporary files is full.
    """

    spool_max_size = 0  # SpooledTemporaryFile never writes to disk


@asynccontextmanager
async def read_images(
    request: Request, receiver: BodyReceiver, field: str, max_files: int
) -> AsyncIterator[list[bytes]]:
    """Receive the image files of a request.

    Args:
        request: a form with files in ``field``; if ``max_files`` is 1, alternatively an image as
            the body.
        receiver: receives the body.
        field: name of the form field.
        max_files: maximum number of files.

    Raises:
        RejectedRequestError: there is no file, there are too many, or the body was not received.
        ClientDisconnect: the client closed the connection.
    """
    media_type = request.headers.get("content-type", "").split(";")[0].strip().lower()
    is_image = max_files == 1 and media_type in IMAGE_TYPES
    if not is_image and media_type != FORM:
        found = f", not {media_type!r}" if media_type else ""
        or_image = f" or an image ({', '.join(IMAGE_TYPES)})" if max_files == 1 else ""
        raise RejectedRequestError(
            415, f"The body has to be a form ({FORM}) with an image{or_image}{found}."
        )
    async with receiver.body(request) as body:
        yield [body] if is_image else await _files(request.headers, body, field, max_files)


async def _files(headers: Headers, body: bytes, field: str, max_files: int) -> list[bytes]:
    """Return the files in a form field."""

    async def chunks() -> AsyncIterator[bytes]:
        for start in range(0, len(body), CHUNK_BYTES):
            yield body[start : start + CHUNK_BYTES]
            await asyncio.sleep(0)  # let other requests proceed

    try:
        # One more than allowed, so that the error message below is used.
        form = await _InMemory(headers, chunks(), max_files=max_files + 1, max_fields=32).parse()  # type: ignore[arg-type]
    except MultiPartException as error:
        if "Too many files" in error.message:
            raise _too_many(max_files) from None
        raise RejectedRequestError(400, f"The form cannot be read: {error.message}") from None
    files = form.getlist(field)
    if len(files) > max_files:
        raise _too_many(max_files)
    contents = [each.file.read() for each in files if isinstance(each, UploadFile)]
    if not files or len(contents) < len(files):
        found = ", ".join(repr(name) for name in form) or "no field"
        raise RejectedRequestError(
            422,
            f"There is no file in the form field {field!r} (found {found}). "
            f"Example: {EXAMPLE_COMMAND}",
        )
    return contents


def _too_many(max_files: int) -> RejectedRequestError:
    images = "image is" if max_files == 1 else "images are"
    return RejectedRequestError(413, f"At most {max_files} {images} accepted per request.")


def image_body_schema(field: str, many: bool) -> dict[str, Any]:
    """Return the OpenAPI description of the request body."""
    file: dict[str, Any] = {"type": "string", "format": "binary"}
    files = {"type": "array", "items": file, "minItems": 1} if many else file
    form = {"type": "object", "required": [field], "properties": {field: files}}
    content: dict[str, Any] = {FORM: {"schema": form}}
    if not many:
        content |= {kind: {"schema": file} for kind in IMAGE_TYPES}
    return {"requestBody": {"required": True, "content": content}}
