"""The embedded sample: reproducible bytes, and all planted faults present."""

import hashlib
from pathlib import Path

import imagehash
import pytest
from PIL import Image

from carbench.data.sample import CLASSES, PlantedFaults, generate_sample, plan_faults

SEED = 7
# 12 images per class with seed 7. A new Pillow may change it: then look at the images, and
# expect every accuracy measured on the sample to move a little.
PINNED = "842232081f8115be4b51e9d32b73626fc36e4780b55f8290d53e639fa7e7be07"


def digest(root: Path) -> str:
    whole = hashlib.sha256()
    for path in sorted(root.rglob("*.jpg")):
        whole.update(path.relative_to(root).as_posix().encode() + path.read_bytes())
    return whole.hexdigest()


def hamming(a: Path, b: Path) -> int:
    """Distance of two images' perceptual hashes, mirrored or not."""
    with Image.open(a) as first, Image.open(b) as second:
        other = imagehash.phash(second)
        turned = first.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        return min(imagehash.phash(first) - other, imagehash.phash(turned) - other)


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, PlantedFaults]:
    """A sample just large enough to be rendered by two processes."""
    root = tmp_path_factory.mktemp("sample")
    return root, generate_sample(root, 60, SEED, workers=2)


@pytest.mark.slow
def test_the_bytes_do_not_depend_on_the_number_of_processes(
    sample: tuple[Path, PlantedFaults], tmp_path: Path
) -> None:
    generate_sample(tmp_path, 60, SEED, workers=1)
    assert digest(tmp_path) == digest(sample[0])


def test_the_bytes_are_the_same_on_every_machine(tmp_path: Path) -> None:
    generate_sample(tmp_path / "a", 12, SEED)
    generate_sample(tmp_path / "b", 12, SEED + 1)
    assert digest(tmp_path / "a") == PINNED
    assert digest(tmp_path / "b") != PINNED


def test_an_image_does_not_depend_on_how_many_are_drawn(
    sample: tuple[Path, PlantedFaults], tmp_path: Path
) -> None:
    root, planted = sample
    smaller = generate_sample(tmp_path, 12, SEED)
    special = {
        copy.copy for p in (planted, smaller) for copy in p.exact_copies + p.near_copies
    } | set(planted.undecodable + smaller.undecodable)
    for p in (planted, smaller):
        special |= set(p.png + p.palette + p.greyscale + p.rotated)
    plain = [path for path in smaller.files if path not in special]
    assert len(plain) > 30
    assert all((tmp_path / p).read_bytes() == (root / p).read_bytes() for p in plain)


def test_the_planned_files_are_written(sample: tuple[Path, PlantedFaults]) -> None:
    root, planted = sample
    written = sorted(p.relative_to(root).as_posix() for p in root.rglob("*") if p.is_file())
    assert planted == plan_faults(60, SEED)
    assert written == list(planted.files)
    assert len(written) == 60 * len(CLASSES)


def test_exact_copies_are_byte_identical_and_near_copies_look_alike(
    sample: tuple[Path, PlantedFaults],
) -> None:
    root, planted = sample
    assert planted.label_conflicts
    assert planted.exact_in_train and planted.exact_in_test and planted.exact_leaks
    for copy in planted.exact_copies:
        assert (root / copy.copy).read_bytes() == (root / copy.original).read_bytes()
    assert {copy.transform for copy in planted.near_copies} == {
        "resized", "recompressed", "cropped", "mirrored", "recoloured"
    }  # fmt: skip
    for copy in planted.near_copies:
        assert (root / copy.copy).read_bytes() != (root / copy.original).read_bytes()
    distances = sorted(hamming(root / c.copy, root / c.original) for c in planted.near_copies)
    assert distances[int(0.95 * len(distances))] <= 10


def test_images_that_are_no_copies_differ(sample: tuple[Path, PlantedFaults]) -> None:
    root, planted = sample
    copies = {copy.copy for copy in planted.exact_copies}
    rest = [p for p in planted.files if p not in copies and p not in planted.empty]
    assert len({(root / path).read_bytes() for path in rest}) == len(rest)


def test_leak_fractions_differ_by_class() -> None:
    planted = plan_faults(250, SEED)
    for leak in planted.exact_leaks + planted.near_leaks:
        assert leak.copy.startswith("test/") and leak.original.startswith("train/")
        assert leak.copy.split("/")[1] == leak.original.split("/")[1]
    for conflict in planted.label_conflicts:
        assert conflict.copy.split("/")[1] != conflict.original.split("/")[1]
    shares = planted.leak_shares()
    assert (shares["Saloon"], shares["Coupe"]) == (0.60, 0.0)
    assert len(planted.leaked) == 75  # of 300


@pytest.mark.parametrize("images_per_class", [10, 12, 60, 250, 300])
def test_every_fault_is_planted_in_a_file_of_its_own(images_per_class: int) -> None:
    planted = plan_faults(images_per_class, SEED)
    odd = [
        *planted.undecodable, *planted.png, *planted.palette, *planted.greyscale, *planted.rotated
    ]  # fmt: skip
    copies = [copy.copy for copy in planted.exact_copies + planted.near_copies]
    originals = {copy.original for copy in planted.exact_copies + planted.near_copies}
    assert len(set(odd + copies)) == len(odd + copies)
    assert not originals & set(odd + copies)
    assert originals < set(planted.files)
    for kind in ("truncated", "empty", "text", "png", "palette", "greyscale", "rotated"):
        assert getattr(planted, kind)


def test_broken_files_cannot_be_decoded_and_unusual_ones_can(
    sample: tuple[Path, PlantedFaults],
) -> None:
    root, planted = sample
    for path in planted.undecodable:
        with pytest.raises(OSError), Image.open(root / path) as image:
            image.load()
    seen = {}
    for kind in ("png", "palette", "greyscale", "rotated"):
        with Image.open(root / getattr(planted, kind)[0]) as image:
            image.load()
            seen[kind] = (image.format, image.mode, image.getexif().get(0x0112))
    assert seen == {
        "png": ("PNG", "RGB", None),
        "palette": ("PNG", "P", None),
        "greyscale": ("JPEG", "L", None),
        "rotated": ("JPEG", "RGB", 6),
    }
    broken = set(planted.undecodable)
    for path in planted.files:
        if path not in broken:
            with Image.open(root / path) as image:
                image.load()


def test_too_few_images_per_class_are_rejected() -> None:
    with pytest.raises(ValueError, match="at least 10"):
        plan_faults(9, SEED)
