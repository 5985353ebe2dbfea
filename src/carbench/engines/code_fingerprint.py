"""CodeFingerprints of code: what Python compiles, without comments, docstrings and layout.

A stage depends on folders of code (``dvc.yaml``). DVC compares their bytes. The records of what a
job was made from compare fingerprints instead, so that a corrected comment or a reformatted file
repeats no training: the job finds its results in the cache, and nothing is computed.
"""

from __future__ import annotations

import ast
import hashlib
import sys
from collections.abc import Sequence
from pathlib import Path

from pydantic import TypeAdapter

from carbench.engines.hashing import Content
from carbench.engines.state_files import read_state, write_state

MEMORY = Path(".carbench/code.json")
# Of the form of what is remembered there.
VERSION = 1
FORM = TypeAdapter(dict[str, str])
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def is_code(path: str) -> bool:
    """Whether a dependency is code of the study, by its place in the repository."""
    return path.startswith(("scripts/", "src/"))


def fingerprint(source: bytes) -> str:
    """Return a hash that two versions of a module share only if they do the same.

    It is taken of the syntax tree without docstrings and positions. Of what is not valid Python,
    it is taken of the bytes. It differs between minor versions of Python, whose trees differ.
    """
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return _hash(source)
    for node in ast.walk(tree):
        if isinstance(node, DOCUMENTED) and ast.get_docstring(node, clean=False) is not None:
            del node.body[0]
    return _hash(ast.dump(tree).encode())


class CodeFingerprints:
    """CodeFingerprints of a repository's code, remembered by the md5 of each file.

    Args:
        root: the repository.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._known: dict[str, str] | None = None
        self._new = False

    def fingerprint(self, path: str, content: Content, files: Sequence[tuple[str, Content]]) -> str:
        """Return the fingerprint of a file or folder.

        Args:
            path: of the file or folder, relative to the repository.
            content: what lies there.
            files: of a folder, its files, by name in it.
        """
        if content.nfiles is None:
            return self._of_file(path, content.md5)
        listing = [f"{name}\0{self._of_file(f'{path}/{name}', each.md5)}" for name, each in files]
        return _hash("\n".join(listing).encode())

    def save(self) -> None:
        """Write down what was computed; a failure costs time, not truth."""
        if self._new and self._known is not None:
            write_state(self._root / MEMORY, VERSION, self._known)
            self._new = False

    def _of_file(self, path: str, md5: str) -> str:
        if not path.endswith(".py"):
            return md5
        if self._known is None:
            self._known = read_state(self._root / MEMORY, VERSION, FORM) or {}
        key = f"{sys.version_info[0]}.{sys.version_info[1]} {md5}"
        if key not in self._known:
            source = (self._root / path).read_bytes()
            if _hash(source) != md5:  # edited this moment: not what was hashed
                return md5
            self._known[key] = fingerprint(source)
            self._new = True
        return self._known[key]


def _hash(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()
