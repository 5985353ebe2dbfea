"""Which of the project's files a script's result depends on, by reading its imports.

Both engines rerun a stage when one of these files changes: the Snakefile calls this module,
``dvc.yaml`` lists the files and a test holds the lists to it. Only ``import`` statements count,
wherever they stand; a module loaded by name at run time does not (the check of the whole study in
``carbench.engines.stage``).

``python -m carbench.engines.code_lists`` writes the lists into ``dvc.yaml``.
"""

from __future__ import annotations

import ast
import hashlib
import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path

PACKAGE = Path("src/carbench")
TEMPLATES = (".html", ".css", ".js", ".md", ".csv")


def code_of(stage: str, root: Path = Path()) -> list[str]:
    """Return the files behind a stage: its script, then every carbench module that it imports.

    What a page or card is made of and lies beside a module (TEMPLATES) counts as part of it.

    Args:
        stage: the stage's name; its script is ``scripts/<stage>.py``.
        root: the repository.

    Returns:
        POSIX paths relative to ``root``, the script first, the rest sorted.
    """
    script = f"scripts/{stage}.py"
    folders = {
        Path(folder).relative_to(root).as_posix(): set(names)
        for folder, _, names in os.walk(root / PACKAGE)
    }
    found: set[str] = set()
    waiting = [script]
    while waiting:
        path = waiting.pop()
        if not path.endswith(".py"):
            continue
        file = (root / path).absolute()
        for module in _imports(file, file.stat().st_mtime_ns):
            own = set(_files(module, folders)) - found
            found |= own
            waiting += own
    return [script, *sorted(found)]


def code_hash(stage: str, root: Path = Path()) -> str:
    """Return one sha256 over the names and contents of a stage's code."""
    digest = hashlib.sha256()
    for path in code_of(stage, root):
        content = (root / path).read_bytes()
        digest.update(f"{path}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()


@cache
def _imports(path: Path, changed: int) -> tuple[str, ...]:
    """Names of the carbench modules (and of names in them) that a file imports.

    ``changed``, the file's time of change, keeps a long-lived process from remembering too long.
    """
    return tuple(_names(ast.parse(path.read_text(encoding="utf-8"))))


def _names(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        else:
            continue
        yield from (name for name in names if name.split(".")[0] == PACKAGE.name)


def _files(module: str, folders: dict[str, set[str]]) -> Iterator[str]:
    """Files that importing a dotted name runs: the module and its parent packages.

    Args:
        module: a dotted name; its last part may be that of something in a module.
        folders: the names of the files in each folder of the package.
    """
    above = PACKAGE.as_posix()
    for part in [*module.split(".")[1:], ""]:
        present = {"__init__.py", f"{part}.py"} & folders.get(above, set())
        if present:
            beside = {name for name in folders[above] if name.endswith(TEMPLATES)}
            yield from (f"{above}/{name}" for name in sorted(present | beside))
        above = f"{above}/{part}"
