"""Files out of a form; without FastAPI's parameters, which cost as much as a small model."""

from __future__ import annotations

from typing import Any

from starlette.datastructures import UploadFile
from starlette.requests import Request

from carbench.serve.service import RefusedError

HOW = 'curl -X POST http://localhost:8000/predict -F "image=@car.jpg"'


async def read_files(request: Request, field: str, most: int) -> list[bytes]:
    """Return the contents of the files in a form's field.

    Raises:
        RefusedError: there is none, or there are more than ``most``.
        HTTPException: the form cannot be read, or :class:`carbench.serve.door.Door` stopped it.
    """
    async with request.form() as form:
        files = form.getlist(field)
        if len(files) > most:
            pictures = "picture is" if most == 1 else "pictures are"
            raise RefusedError(413, f"At most {most} {pictures} taken at a time.")
        contents = [await each.read() for each in files if isinstance(each, UploadFile)]
    if not files or len(contents) < len(files):
        found = ", ".join(repr(name) for name in form) or "no field"
        raise RefusedError(
            422, f"There is no file in the form field {field!r} (found {found}); send it as {HOW}."
        )
    return contents


def described(field: str, many: bool) -> dict[str, Any]:
    """Return what OpenAPI says of such a form."""
    file: dict[str, Any] = {"type": "string", "format": "binary"}
    if many:
        file = {"type": "array", "items": file, "minItems": 1}
    form = {"type": "object", "required": [field], "properties": {field: file}}
    content = {"multipart/form-data": {"schema": form}}
    return {"requestBody": {"required": True, "content": content}}
