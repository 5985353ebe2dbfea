"""fetch accepts images, lists other files with a reason, and rejects unsafe archives."""

from __future__ import annotations

import csv
import io
import os
import shutil
import stat
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from conftest import TURNED_ODDLY, run_script

Study = Callable[..., Path]
Fetch = Callable[..., subprocess.CompletedProcess[str]]


def image(seed: int, kind: str = "JPEG", size: tuple[int, int] = (24, 16)) -> bytes:
    """Return the content of an image file with random pixels."""
    pixels = np.random.default_rng(seed).integers(0, 255, (size[1], size[0], 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind)
    return file.getvalue()


def tree(
    *classes: str, parts: tuple[str, ...] = ("train", "test"), each: int = 3
) -> dict[str, bytes]:
    """Return image files in part/class/ folders, by path."""
    return {
        "/".join(filter(None, (part, label, f"{number}.jpg"))): image(
            hash((part, label, number)) % 2**32
        )
        for part in parts
        for label in classes
        for number in range(each)
    }


def write_zip(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def fetch(study: Study, tmp_path: Path) -> Fetch:
    """Run fetch on an archive or a folder with some keys changed."""

    def run(path: Path, **keys: object) -> subprocess.CompletedProcess[str]:
        source = "folder" if path.is_dir() else "archive"
        changes = {"data.source": source, "data.path": str(path)}
        params = study(changes | {f"data.{key}": value for key, value in keys.items()})
        return run_script("fetch", "--params", params, "--output", tmp_path / "data")

    return run


@pytest.mark.parametrize("top", ["", "Cars Dataset/", "a/b/"])
def test_an_archive_with_published_splits(fetch: Fetch, tmp_path: Path, top: str) -> None:
    files = {top + name: content for name, content in tree("Rolls Royce", "Audi").items()}
    files[f"{top}test/Audi/readme.txt"] = b"hello"
    files["__MACOSX/._x.jpg"] = b"fork"
    done = fetch(write_zip(tmp_path / "cars.zip", files))
    assert done.returncode == 0, done.stderr
    manifest = rows(tmp_path / "data/manifest.csv")
    assert len(manifest) == 12
    assert {(row["published"], row["class"]) for row in manifest} == {
        (part, label) for part in ("train", "test") for label in ("Rolls Royce", "Audi")
    }
    assert (tmp_path / "data/images/test/Rolls Royce/0.jpg").read_bytes() == files[
        f"{top}test/Rolls Royce/0.jpg"
    ]
    assert [row["reason"] for row in rows(tmp_path / "data/quarantine.csv")] == [
        "skipped: not an image"
    ]
    assert "1 hidden files" in done.stderr


def test_a_folder_of_classes(fetch: Fetch, tmp_path: Path) -> None:
    for name, content in tree("Audi", "Swift", parts=("",)).items():
        path = tmp_path / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    done = fetch(tmp_path / "images")
    assert done.returncode == 0, done.stderr
    assert {row["image"] for row in rows(tmp_path / "data/manifest.csv")} == {
        f"{label}/{number}.jpg" for label in ("Audi", "Swift") for number in range(3)
    }


def test_unusual_names_are_accepted_and_invalid_ones_listed(fetch: Fetch, tmp_path: Path) -> None:
    root = tmp_path / "images"
    odd = 'grey ü, "quoted" <i> {seed}.jpg'
    for name, content in tree("Audi", "L'été & 日本車", parts=("",)).items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    (root / "Audi" / odd).write_bytes(image(5))
    Path(os.fsdecode(os.fsencode(root / "Audi") + b"/latin\xe9.jpg")).write_bytes(image(6))
    (root / "Audi/dangling.jpg").symlink_to("/nowhere")
    (root / "loop").symlink_to(root)
    done = fetch(root, max_bad_fraction=0.4)
    assert done.returncode == 0, done.stderr
    assert len(rows(tmp_path / "data/manifest.csv")) == 7
    assert f"Audi/{odd}" in {row["image"] for row in rows(tmp_path / "data/manifest.csv")}
    reasons = {row["file"]: row["reason"] for row in rows(tmp_path / "data/quarantine.csv")}
    assert reasons == {
        "Audi/latin\\xe9.jpg": "its name is not UTF-8, or has control characters",
        "Audi/dangling.jpg": "No such file or directory",
    }


def test_an_undecodable_file_is_listed_with_the_reason(fetch: Fetch, tmp_path: Path) -> None:
    files = tree("Audi", "Swift", each=20)
    whole = image(1, size=(200, 200))
    files["train/Audi/cut.jpg"] = whole[: len(whole) // 2]
    files["train/Audi/empty.jpg"] = b""
    files["train/Audi/text.jpg"] = b"no image at all"
    files["train/Audi/really.jpg"] = image(2, "PNG")
    files["loose.jpg"] = image(3)
    done = fetch(write_zip(tmp_path / "cars.zip", files))
    assert done.returncode == 0, done.stderr
    reasons = {row["file"]: row["reason"] for row in rows(tmp_path / "data/quarantine.csv")}
    assert set(reasons) == {
        "train/Audi/cut.jpg",
        "train/Audi/empty.jpg",
        "train/Audi/text.jpg",
        "loose.jpg",
    }
    assert "truncated" in reasons["train/Audi/cut.jpg"]
    assert reasons["train/Audi/empty.jpg"] == "empty file"
    assert reasons["train/Audi/text.jpg"] == "not an image"
    assert reasons["loose.jpg"] == "skipped: not in a class folder"
    (odd,) = (row for row in rows(tmp_path / "data/manifest.csv") if "really" in row["image"])
    assert odd["format"] == "PNG"


def test_malformed_metadata_and_decoder_errors_do_not_stop_fetch(
    fetch: Fetch, tmp_path: Path
) -> None:
    files = tree("Audi", "Swift", each=20)
    with Image.open(io.BytesIO(image(4))) as lying:
        file = io.BytesIO()
        lying.save(file, "JPEG", exif=TURNED_ODDLY)
        files["train/Audi/turned.jpg"] = file.getvalue()
        file = io.BytesIO()
        lying.save(file, "GIF", save_all=True, append_images=[lying.rotate(90)])
        animated = file.getvalue()
    # Within the size of the second image: Pillow fails with struct.error.
    files["train/Swift/cut.gif"] = animated[: animated.rindex(b"!\xf9") + 10]
    done = fetch(write_zip(tmp_path / "cars.zip", files))
    assert done.returncode == 0, done.stderr
    assert "train/Audi/turned.jpg" in {row["image"] for row in rows(tmp_path / "data/manifest.csv")}
    (bad,) = rows(tmp_path / "data/quarantine.csv")
    assert bad["file"] == "train/Swift/cut.gif"
    assert bad["reason"].startswith("damaged (error: unpack")


def refused(done: subprocess.CompletedProcess[str], data: Path, *words: str) -> None:
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    for word in (*words, "Fix:"):
        assert word in done.stderr
    assert not list(data.glob("*"))


def test_too_many_bad_images_are_an_error(fetch: Fetch, tmp_path: Path) -> None:
    files = tree("Audi", "Swift") | {f"train/Audi/bad{n}.jpg": b"x" for n in range(9)}
    done = fetch(write_zip(tmp_path / "cars.zip", files), max_bad_fraction=0.1)
    refused(done, tmp_path / "data", "9 of 21 images", "data.max_bad_fraction = 0.1")


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["../evil.jpg", "/etc/evil.jpg", "a/../../evil.jpg", "C:/evil.jpg", "..\\evil.jpg"]
)
def test_a_path_outside_the_archive_is_rejected(fetch: Fetch, tmp_path: Path, name: str) -> None:
    done = fetch(write_zip(tmp_path / "cars.zip", tree("Audi", "Swift") | {name: image(0)}))
    refused(done, tmp_path / "data", "outside the archive's folder", "cars.zip")


def test_a_link_in_an_archive_is_rejected(fetch: Fetch, tmp_path: Path) -> None:
    path = write_zip(tmp_path / "cars.zip", tree("Audi", "Swift"))
    with zipfile.ZipFile(path, "a") as archive:
        link = zipfile.ZipInfo("train/Audi/link.jpg")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, "/etc/passwd")
    refused(fetch(path), tmp_path / "data", "symbolic link", "train/Audi/link.jpg")


def test_a_zip_bomb_is_rejected(fetch: Fetch, tmp_path: Path) -> None:
    files = tree("Audi", "Swift") | {"train/Audi/bomb.jpg": bytes(30_000_000)}
    path = write_zip(tmp_path / "cars.zip", files)
    assert path.stat().st_size < 100_000
    done = fetch(path, max_unpacked_gb=0.01)
    refused(done, tmp_path / "data", "GB when unpacked", "data.max_unpacked_gb = 0.01")


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({}, "no images among 0 files"),
        ({"notes.txt": b"x"}, "no images among 1 files"),
        (tree("Audi"), "1 class ['Audi']"),
        (tree("Audi", parts=("",)), "1 class ['Audi']"),
    ],
)
def test_missing_images_or_classes_are_an_error(
    fetch: Fetch, tmp_path: Path, files: dict[str, bytes], words: str
) -> None:
    refused(fetch(write_zip(tmp_path / "cars.zip", files)), tmp_path / "data", words)


def test_classes_are_selected_and_excluded(fetch: Fetch, tmp_path: Path) -> None:
    path = write_zip(tmp_path / "cars.zip", tree("Audi", "Swift", "Rolls Royce"))
    assert fetch(path, exclude=["Audi"]).returncode == 0
    found = {row["class"] for row in rows(tmp_path / "data/manifest.csv")}
    assert found == {"Swift", "Rolls Royce"}
    shutil.rmtree(tmp_path / "data")
    done = fetch(path, classes=["Audi", "Rols Royce"])
    refused(done, tmp_path / "data", "data.classes", "'Rols Royce'", "write 'Rolls Royce'")


@pytest.mark.parametrize("content", [b"not a zip", b"", None])
def test_a_file_that_is_no_archive_is_rejected(
    fetch: Fetch, tmp_path: Path, content: bytes | None
) -> None:
    path = tmp_path / "cars.zip"
    if content is not None:
        path.write_bytes(content)
    refused(fetch(path), tmp_path / "data", str(path), "zip file")


def damaged_zip(path: Path, method: int) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in tree("Audi", "Swift", each=12).items():
            archive.writestr(name, content)
        member = archive.infolist()[0]
    content = bytearray(path.read_bytes())
    start = member.header_offset + 30 + len(member.filename)
    content[start + 20 : start + member.compress_size] = bytes(member.compress_size - 20)
    path.write_bytes(content)
    return path


METHODS = [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA]


@pytest.mark.parametrize("method", METHODS)
def test_a_damaged_entry_is_quarantined(fetch: Fetch, tmp_path: Path, method: int) -> None:
    done = fetch(damaged_zip(tmp_path / "cars.zip", method))
    assert done.returncode == 0, done.stderr
    (bad,) = rows(tmp_path / "data/quarantine.csv")
    assert bad["file"] == "train/Audi/0.jpg"
    assert bad["reason"].startswith("damaged in the archive (")


def changed_entry(
    path: Path, name: bytes, local: tuple[int, bytes], listed: tuple[int, bytes]
) -> Path:
    """Overwrite bytes of an entry's header and of its line in the archive's directory."""
    write_zip(path, tree("Audi", "Swift") | {name.decode(): image(1)})
    content = bytearray(path.read_bytes())
    for signature, name_at, (offset, value) in ((b"PK\3\4", 30, local), (b"PK\1\2", 46, listed)):
        at = 0
        while content[at + name_at : at + name_at + len(name)] != name:
            at = content.index(signature, at + 1)
        content[at + offset : at + offset + len(value)] = value
    path.write_bytes(content)
    return path


@pytest.mark.slow
@pytest.mark.parametrize(
    ("local", "listed", "words"),
    [
        ((8, b"\x09"), (10, b"\x09"), ["Deflate64", "data.source: folder"]),
        ((8, b"\x62"), (10, b"\x62"), ["PPMd", "data.source: folder"]),
        ((4, b"\x5a"), (6, b"\x5a"), ["zip file version 9.0, which Python cannot read"]),
        ((6, b"\1"), (8, b"\1"), ["an encrypted file"]),
        ((40, b"\xb0\xc2"), (56, b"\xb0\xc2"), ["unspecified encoding"]),
        ((6, b"\0\x08" + bytes(32) + b"\xff"), (57, b"\xff"), ["train/Audi"]),
    ],
)
def test_an_archive_that_python_cannot_read_is_rejected(
    fetch: Fetch,
    tmp_path: Path,
    local: tuple[int, bytes],
    listed: tuple[int, bytes],
    words: list[str],
) -> None:
    path = changed_entry(tmp_path / "cars.zip", b"train/Audi/name.jpg", local, listed)
    refused(fetch(path), tmp_path / "data", "cars.zip", *words)


def test_a_name_with_a_wrong_utf8_flag_is_rejected(fetch: Fetch, tmp_path: Path) -> None:
    name = "train/Audi/ü.jpg"
    path = write_zip(tmp_path / "cars.zip", tree("Audi", "Swift") | {name: image(1)})
    path.write_bytes(path.read_bytes().replace("ü".encode(), b"\xff\xfe"))
    refused(fetch(path), tmp_path / "data", "train/Audi/\\xff\\xfe.jpg", "not UTF-8")


def test_utf8_names_without_the_flag_are_read_as_utf8(fetch: Fetch, tmp_path: Path) -> None:
    name = "train/Audi/日.jpg"
    path = write_zip(tmp_path / "cars.zip", tree("Audi", "Swift") | {name: image(1)})
    content = bytearray(path.read_bytes())
    for signature, offset in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        at = content.find(signature)
        while at >= 0:
            content[at + offset + 1] &= ~8
            at = content.find(signature, at + 1)
    path.write_bytes(content)
    assert fetch(path).returncode == 0
    assert name in {row["image"] for row in rows(tmp_path / "data/manifest.csv")}


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("train/Audi/0.jpg", ["train/Audi/0.jpg", "2 entries with this name"]),
        ("train/Audi/0.jpg/x.jpg", ["train/Audi/0.jpg", "both a file and a folder"]),
    ],
)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_colliding_paths_are_rejected(
    fetch: Fetch, tmp_path: Path, name: str, words: list[str]
) -> None:
    path = write_zip(tmp_path / "cars.zip", tree("Audi", "Swift"))
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(name, image(1))
    refused(fetch(path), tmp_path / "data", *words)


def test_a_name_that_is_too_long_is_quarantined(fetch: Fetch, tmp_path: Path) -> None:
    files = tree("Audi", "Swift", each=12) | {f"train/Audi/{'x' * 300}.jpg": image(1)}
    done = fetch(write_zip(tmp_path / "cars.zip", files))
    assert done.returncode == 0, done.stderr
    (bad,) = rows(tmp_path / "data/quarantine.csv")
    assert bad["reason"] == "its name is too long for this file system"


def test_the_error_names_other_archive_formats(fetch: Fetch, tmp_path: Path) -> None:
    path = tmp_path / "cars.zip"
    path.write_bytes(b"Rar!\x1a\7\1\0" + bytes(100))
    refused(fetch(path), tmp_path / "data", "RAR, not a zip file", "data.source: folder")


def test_a_failed_run_keeps_the_earlier_result(fetch: Fetch, tmp_path: Path) -> None:
    path = write_zip(tmp_path / "cars.zip", tree("Audi", "Swift"))
    assert fetch(path).returncode == 0
    before = (tmp_path / "data/manifest.csv").read_bytes()
    path.write_bytes(b"damaged")
    assert fetch(path).returncode == 1
    assert (tmp_path / "data/manifest.csv").read_bytes() == before
