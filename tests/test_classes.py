"""fetch never loses or merges a class silently, whatever the folders contain."""

from __future__ import annotations

import io
import os
import unicodedata
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from carbench.core.errors import CarbenchError
from carbench.core.params import read_section
from carbench.core.tables import read_table, write_table
from carbench.data.sources.ingest import MANIFEST_COLUMNS, IngestResult, ingest_images
from carbench.data.sources.open_source import open_source
from carbench.params.data import DataParams
from conftest import ROOT

Fetch = Callable[..., IngestResult]


def image(seed: int, kind: str = "PNG") -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 255, (8, 8, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind)
    return file.getvalue()


def classes(*names: str, images: int = 4, suffix: str = ".png") -> dict[str, bytes]:
    return {
        f"{name}/{number}{suffix}": image(100 * place + number)
        for place, name in enumerate(names)
        for number in range(images)
    }


@pytest.fixture
def fetch(tmp_path: Path) -> Fetch:
    """Collect a folder with these files and empty folders, or the zip or folder at a path."""

    def run(files: dict[str, bytes] | Path, *folders: str, **keys: object) -> IngestResult:
        root = files if isinstance(files, Path) else tmp_path / "set"
        for name in folders:
            (root / name).mkdir(parents=True)
        for name, content in {} if isinstance(files, Path) else files.items():
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        sample = read_section(ROOT / "presets/sample.yaml", "data", DataParams)
        source = "folder" if root.is_dir() else "archive"
        params = DataParams(**sample.model_dump() | {"source": source, "path": str(root)} | keys)
        with open_source(params, tmp_path / "scratch") as listing:
            return ingest_images(listing, params, "the set", tmp_path / "images")

    return run


def labels(result: IngestResult) -> set[object]:
    return {row["class"] for row in result.manifest}


# ---- what a class folder holds


HTML = b"<!DOCTYPE html><title>404</title>"
HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"


@pytest.mark.parametrize(
    ("lost", "reason"),
    [
        ({}, "no file"),
        ({"C/a.html": HTML, "C/b.html": HTML}, "2 files: not an image but HTML"),
        ({"C/a.jpg": HTML, "C/b": HTML}, "2 files: not an image but HTML"),
        ({"C/a.heic": HEIC, "C/b.HEIC": HEIC}, "HEIC; convert it to JPEG or PNG"),
        ({"C/a.txt": b"a car"}, "no file"),
        ({"C/a.jpg": b""}, "1 files: empty file"),
        ({"C/a": b"noise", "C/b": b"noise"}, "2 files: not an image"),
    ],
)
@pytest.mark.parametrize("part", ["", "train/"])
def test_a_class_without_a_usable_image_is_named(
    fetch: Fetch, lost: dict[str, bytes], reason: str, part: str
) -> None:
    files = {f"{part}{name}": content for name, content in (classes("A", "B") | lost).items()}
    if part:
        files |= {f"test/{name}": content for name, content in classes("A", "B", "C").items()}
    with pytest.raises(CarbenchError) as refused:
        fetch(files, *([] if lost else [f"{part}C"]))
    assert f"no usable image in {part}C (" in str(refused.value)
    assert reason in str(refused.value)
    assert "data.exclude: [C]" in str(refused.value)


def test_an_excluded_class_may_be_empty(fetch: Fetch) -> None:
    assert labels(fetch(classes("A", "B"), "C", "D/deeper", exclude=["C", "D"])) == {"A", "B"}


def test_an_empty_class_folder_of_a_zip_is_named(fetch: Fetch, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        archive.writestr("top/C/", "")
        for name, content in classes("top/A", "top/B").items():
            archive.writestr(name, content)
    with pytest.raises(CarbenchError, match=r"no usable image in C \(no file\)"):
        fetch(tmp_path / "set.zip")


def test_empty_folders_that_are_no_classes_do_not_matter(fetch: Fetch) -> None:
    folders = ("A/empty", "@eaDir", ".cache")
    assert labels(fetch(classes("A", "B"), *folders)) == {"A", "B"}


@pytest.mark.parametrize("suffix", ["", ".jfif", ".JPE", ".download", ".txt", ".jpg?size=big"])
def test_the_content_decides_not_the_extension(fetch: Fetch, suffix: str) -> None:
    result = fetch(classes("A", "B") | classes("C", suffix=suffix))
    assert labels(result) == {"A", "B", "C"}
    assert not result.quarantine


def test_an_undecodable_file_counts_as_bad_whatever_its_extension(fetch: Fetch) -> None:
    files = classes("A", "B") | {f"A/{number}": HTML for number in range(4)}
    with pytest.raises(CarbenchError, match="found 4 of 12 images that cannot be decoded"):
        fetch(files, max_bad_fraction=0.1)
    result = fetch({}, max_bad_fraction=0.4)
    assert len(result.manifest) == 8
    assert len(result.quarantine) == 4


def test_files_of_other_types_are_skipped(fetch: Fetch) -> None:
    notes = {f"A/{number}.txt": b"0 0.5 0.5 1 1" for number in range(4)} | {"labels.csv": b"a,b"}
    thumbnails = {"A/@eaDir/0.png/SYNOPHOTO.jpg": image(9), "A/Thumbs.db": b"x"}
    result = fetch(classes("A", "B") | notes | thumbnails, max_bad_fraction=0.0)
    assert len(result.manifest) == 8
    assert {row["reason"] for row in result.quarantine} == {"skipped: not an image"}
    assert result.hidden == 2


# ---- folders that cannot be read, links, and what is no file


def test_an_unreadable_folder_is_an_error(fetch: Fetch, monkeypatch: pytest.MonkeyPatch) -> None:
    scan = os.scandir

    def forbidden(path: str) -> object:
        if str(path).endswith("/B"):
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", forbidden)
    with pytest.raises(CarbenchError, match="B: found a folder that cannot be read"):
        fetch(classes("A", "B", "C"))


def test_a_fifo_is_listed_and_never_opened(fetch: Fetch, tmp_path: Path) -> None:
    (tmp_path / "set/A").mkdir(parents=True)
    for name in ("A/pipe.jpg", "A/pipe"):
        os.mkfifo(tmp_path / "set" / name)
    result = fetch(classes("A", "B", images=9), max_bad_fraction=0.2)
    assert [row["reason"] for row in result.quarantine] == ["a FIFO, not a file"] * 2


def test_links_are_followed_except_cycles(fetch: Fetch, tmp_path: Path) -> None:
    root = tmp_path / "set"
    (root / "A").mkdir(parents=True)
    (root / "B").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere/in").mkdir(parents=True)
    (tmp_path / "elsewhere/in/9.png").write_bytes(image(9))
    (tmp_path / "elsewhere/in/round").symlink_to(root)
    (root / "A/again").symlink_to(tmp_path / "elsewhere/in")
    names = {str(row["image"]) for row in fetch(classes("A", "C")).manifest}
    assert {"B/in/9.png", "A/again/9.png"} < names
    assert len(names) < 30


def test_a_class_folder_that_is_a_dangling_link_is_named(fetch: Fetch, tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    (tmp_path / "set/C").symlink_to("/unmounted/C")
    with pytest.raises(CarbenchError, match="no usable image in C"):
        fetch(classes("A", "B"))


# ---- names


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Citroën", unicodedata.normalize("NFD", "Citroën")),
        ("Audi", "AUDI"),
        ("Audi", "Audi "),
        ("STRASSE", "straße"),
    ],
)
@pytest.mark.parametrize("parts", [("", ""), ("train/", "test/")])
def test_confusable_class_names_are_rejected(
    fetch: Fetch, one: str, other: str, parts: tuple[str, str]
) -> None:
    if parts[0] and one == other.strip():
        pytest.skip("one class in two parts: spaces around it do not matter")
    files = classes(f"{parts[0]}{one}", f"{parts[1]}{other}", f"{parts[0]}B", f"{parts[1]}C")
    with pytest.raises(CarbenchError, match="names that differ in more than case"):
        fetch(files)


@pytest.mark.parametrize("name", [" ", "two\nlines", "a\rb", "\x7f", "latin\udce9"])
def test_an_unprintable_class_name_is_rejected(fetch: Fetch, name: str) -> None:
    with pytest.raises(CarbenchError, match="rename the folder"):
        fetch(classes("A", "B", name))


@pytest.mark.parametrize("name", ["a\rb.png", "a\nb.png", "tab\t.png"])
def test_a_file_name_with_control_characters_is_listed(fetch: Fetch, name: str) -> None:
    files = classes("A", "B", images=9) | {f"A/{name}": image(1)}
    result = fetch(files, max_bad_fraction=0.1)
    (bad,) = result.quarantine
    assert bad["file"] == f"A/{ascii(name)[1:-1]}"


def test_any_text_survives_writing_and_reading_a_table(tmp_path: Path) -> None:
    texts = ["a\rb", "a\nb", "a\r\nb", 'a"b', "a,b", "", "ü\u2028x", " a ", "\r"]
    rows = [dict.fromkeys(MANIFEST_COLUMNS, text) for text in texts]
    write_table(tmp_path / "table.csv", MANIFEST_COLUMNS, rows)
    assert read_table(tmp_path / "table.csv", MANIFEST_COLUMNS) == rows


# ---- which folders are classes


def test_a_class_may_be_named_train(fetch: Fetch) -> None:
    assert labels(fetch(classes("bus", "car", "train"))) == {"bus", "car", "train"}


@pytest.mark.parametrize("below", ["train/2019", "train/2020"])
def test_classes_next_to_published_splits_are_rejected(fetch: Fetch, below: str) -> None:
    with pytest.raises(CarbenchError, match=r"images in bus/, car/, next to folders"):
        fetch(classes("bus/2019", "car/2019", below))


def test_a_folder_next_to_published_splits_can_be_excluded(fetch: Fetch) -> None:
    files = classes("train/A", "train/B", "test/A", "test/B", "previews")
    result = fetch(files | {"cover.png": image(7)}, exclude=["previews"])
    assert len(result.manifest) == 16
