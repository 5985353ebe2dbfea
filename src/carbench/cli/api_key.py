"""The API key of the service, from a file or from the environment."""

from __future__ import annotations

import os
from pathlib import Path

from carbench.core.errors import CarbenchError

KEY_VARIABLE = "CARBENCH_API_KEY"


def read_api_key(file: Path | None) -> str | None:
    """Return the API key; None if there is neither a file nor a variable.

    The variable is removed from the environment, so that child processes do not inherit it.

    Raises:
        CarbenchError: the file cannot be read, or what it contains is no key.
    """
    if file is None:
        return os.environ.pop(KEY_VARIABLE, "") or None
    try:
        key = file.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise CarbenchError(
            file,
            found=f"no readable key ({error})",
            expected="a file with one line",
            fix="create it, for example with `openssl rand -hex 32 > FILE`",
        ) from None
    if not key or not key.isascii() or not key.isprintable():
        raise CarbenchError(
            file,
            found="no key" if not key else "characters that are not allowed in a header",
            expected="one line of printable ASCII characters",
            fix="create it, for example with `openssl rand -hex 32 > FILE`",
        )
    return key
