"""Fingerprints of code: hashes of the syntax tree, without comments, docstrings and layout.

A stage depends on folders of code (``dvc.yaml``), which DVC compares byte by byte. Job records
compare fingerprints instead, so that an edited comment or a reformatted file does not repeat any
training: the job is still started by DVC, but restores its outputs from the cache.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Sequence
from pathlib import Path

from pydantic import TypeAdapter

from carbench.engines.hashing import Content, bytes_md5
from carbench.engines.state_files import read_state, write_state

CACHE_FILE = Path(".carbench/code.json")
VERSION = 1
SCHEMA = TypeAdapter(dict[str, str])
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def is_code(path: str) -> bool:
    """Return whether a dependency is code of this repository, judging by its path."""
    return path.startswith(("scripts/", "src/"))


def fingerprint(source: bytes) -> str:
    """Return a hash that changes only if the module's behaviour may change.

    It is computed from the syntax tree without docstrings and positions; for anything that is not
    valid Python, from the bytes. It differs between minor versions of Python, whose syntax trees
    differ.
    """
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return bytes_md5(source)
    for node in ast.walk(tree):
        if isinstance(node, DOCUMENTED) and ast.get_docstring(node, clean=False) is not None:
            del node.body[0]
    return bytes_md5(ast.dump(tree).encode())


class CodeFingerprints:
    """Fingerprints of a repository's code, cached by the md5 of each file.

    Args:
        root: the repository.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._cache: dict[str, str] | None = None
        self._changed = False

    def fingerprint(self, path: str, content: Content, files: Sequence[tuple[str, Content]]) -> str:
        """Return the fingerprint of a file or folder.

        Args:
            path: the file or folder, relative to the repository.
            content: its current content.
            files: for a folder, its files by their path inside it.
        """
        if content.nfiles is None:
            return self._file_fingerprint(path, content.md5)
        listing = [
            f"{name}\0{self._file_fingerprint(f'{path}/{name}', file.md5)}" for name, file in files
        ]
        return bytes_md5("\n".join(listing).encode())

    def save(self) -> None:
        """Save the cache; if that fails, fingerprints are computed again the next time."""
        if self._changed and self._cache is not None:
            write_state(self._root / CACHE_FILE, VERSION, self._cache)
            self._changed = False

    def _file_fingerprint(self, path: str, md5: str) -> str:
        if not path.endswith(".py"):
            return md5
        if self._cache is None:
            self._cache = read_state(self._root / CACHE_FILE, VERSION, SCHEMA) or {}
        key = f"{sys.version_info[0]}.{sys.version_info[1]} {md5}"
        if key not in self._cache:
            source = (self._root / path).read_bytes()
            if bytes_md5(source) != md5:  # edited since it was hashed
                return md5
            self._cache[key] = fingerprint(source)
            self._changed = True
        return self._cache[key]
