"""The fingerprint of code changes if the code does something else, and only then."""

from __future__ import annotations

import ast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carbench.engines.code_fingerprint import CodeFingerprints, fingerprint
from carbench.engines.hashing import HashCache
from conftest import ROOT

MODULE = '''"""About it."""
import math


def area(radius: float = 1.0) -> float:
    """Of a circle."""
    return math.pi * radius**2
'''
FILES = sorted((ROOT / "src/carbench").rglob("*.py"))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("About it.", "What it is about."),
        ("Of a circle.", "Square pixels of a circle."),
        ("import math\n", "import math  # for pi\n"),
        ("math.pi * radius**2", "(math.pi * radius ** 2)"),
        ('    """Of a circle."""\n', ""),
    ],
)
def test_comments_docstrings_and_layout_do_not_change_the_fingerprint(old: str, new: str) -> None:
    assert old in MODULE
    assert fingerprint(MODULE.replace(old, new).encode()) == fingerprint(MODULE.encode())


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("1.0", "2.0"),
        ("1.0", "True"),
        ("**2", "**3"),
        ("math.pi * ", "math.pi / "),
        ("    return", "    radius += 0\n    return"),
        ("    return math", '    "".strip()\n    return math'),
        ("radius: float = 1.0", "radius: float, /"),
        ("return ", "yield "),
    ],
)
def test_every_other_edit_changes_the_fingerprint(old: str, new: str) -> None:
    assert old in MODULE
    assert fingerprint(MODULE.replace(old, new).encode()) != fingerprint(MODULE.encode())


@given(st.sampled_from(FILES), st.integers(0))
def test_a_changed_constant_in_any_module_changes_its_fingerprint(path, place) -> None:  # type: ignore[no-untyped-def]
    source = path.read_bytes()
    tree = ast.parse(source)
    numbers = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and type(node.value) is int
    ]
    assert fingerprint(ast.unparse(tree).encode()) == fingerprint(source)
    if numbers:
        numbers[place % len(numbers)].value += 1
        assert fingerprint(ast.unparse(tree).encode()) != fingerprint(source)


@pytest.mark.parametrize("source", [b"def", b"\0", b"\xff\xfe", b"(" * 5000, b""])
def test_other_files_are_fingerprinted_by_their_bytes(source: bytes) -> None:
    assert fingerprint(source) == fingerprint(source)
    assert fingerprint(source) != fingerprint(source + b"1")


def test_a_folders_fingerprint_changes_with_its_files_and_their_names(tmp_path) -> None:  # type: ignore[no-untyped-def]
    folder = tmp_path / "src"
    folder.mkdir()

    def now() -> str:
        hashes = HashCache(tmp_path)
        content = hashes.content("src")
        assert content
        found = CodeFingerprints(tmp_path)
        value = found.fingerprint("src", content, hashes.listing("src"))
        found.save()
        return value

    (folder / "a.py").write_text(MODULE)
    (folder / "page.html").write_text("<p>")
    seen = [now()]
    (folder / "a.py").write_text(MODULE + "# more\n")
    assert now() == seen[0]
    (folder / "page.html").write_text("<b>")
    seen.append(now())
    (folder / "a.py").rename(folder / "b.py")
    seen.append(now())
    (folder / "b.py").write_text(MODULE.replace("pi", "e"))
    seen.append(now())
    assert len(set(seen)) == len(seen)
    (tmp_path / ".carbench/code.json").write_text("{broken")
    assert now() == seen[-1]
