"""Files of arrays."""

from __future__ import annotations

import hashlib
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from carbench.core.arrays import write_arrays

DTYPES = [np.dtype(name) for name in ("u1", "f2", "f4", "f8", "i8", "bool", "<U5")]
ARRAYS = st.sampled_from(DTYPES).flatmap(lambda dtype: arrays(dtype, array_shapes(min_dims=0)))


@given(st.dictionaries(st.from_regex("[a-z]{1,9}", fullmatch=True), ARRAYS, max_size=4))
def test_arrays_are_read_back(written: dict[str, np.ndarray]) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "arrays.npz"
        write_arrays(path, written)
        with np.load(path) as read:
            assert list(read) == list(written)
            for name, array in written.items():
                assert read[name].dtype == array.dtype
                np.testing.assert_array_equal(read[name], array)


def test_the_bytes_are_those_of_other_versions_of_python(tmp_path: Path) -> None:
    """The hash was computed with Python 3.11.2 and 3.11.7, for which numpy.savez differs."""
    path = tmp_path / "arrays.npz"
    write_arrays(path, {"images": np.zeros((2, 3), "u1"), "names": np.array(["a", "bc"])})
    assert hashlib.sha256(path.read_bytes()).hexdigest() == (
        "b1b1130b106210fbd2d1ef4d526c3aaa5fe882de9de20748758a80ccf823bb50"
    )
