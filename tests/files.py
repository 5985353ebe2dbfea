"""Files with generated names and contents, for property-based tests."""

from __future__ import annotations

from pathlib import Path

from hypothesis import strategies as st

NAMES = st.text("abcxyz._- é", min_size=1, max_size=6).filter(
    lambda name: name.strip(". ") == name and name not in (".", "..")
)
FILES = st.dictionaries(
    st.lists(NAMES, min_size=1, max_size=3).map("/".join), st.binary(max_size=40), min_size=1
).filter(
    lambda files: (
        not any(other.startswith(f"{name}/") for name in files for other in files if other != name)
    )
)


def write_files(folder: Path, files: dict[str, bytes]) -> None:
    """Write files by their path in a folder."""
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
