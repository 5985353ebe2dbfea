"""Files of several arrays, with the same bytes from any version of Python."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


def write_arrays(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write an .npz file; equal arrays give equal bytes.

    ``numpy.savez`` does not: the headers of its members depend on the version of Python, and what
    it compresses on that of zlib.

    Args:
        path: the file.
        arrays: the arrays by name, of any shape and any dtype but object.
    """
    with zipfile.ZipFile(path, "w") as archive:
        for name, array in arrays.items():
            content = io.BytesIO()
            np.lib.format.write_array(content, np.asanyarray(array), allow_pickle=False)
            member = zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0))
            archive.writestr(member, content.getbuffer())
