"""carbench init writes params.yaml for a preset or for images, never over an edited one."""

from __future__ import annotations

import argparse
import io
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from PIL import Image

from carbench.cli.commands import init
from carbench.cli.new_study.choosing import choose
from carbench.cli.new_study.survey import Survey
from carbench.core.errors import CarbenchError
from carbench.params.presets import apply_preset, preset_names
from carbench.params.study import Study, check
from conftest import ROOT, copy_repository

Files = dict[str, bytes]
Start = Callable[..., Study]
PRESETS = preset_names(ROOT / "presets")
PUBLISHED = {("train", "Audi"): 6, ("train", "Swift"): 5, ("test", "Audi"): 2, ("test", "Swift"): 3}
PLAIN = {("", "Audi"): 6, ("", "Swift"): 7}


def image(size: tuple[int, int] = (80, 60)) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", size, "navy").save(file, "JPEG")
    return file.getvalue()


def files_of(counts: dict[tuple[str, str], int], content: bytes | None = None) -> Files:
    return {
        "/".join(filter(None, (part, label, f"{number}.jpg"))): content or image()
        for (part, label), count in counts.items()
        for number in range(count)
    }


def write_folder(root: Path, files: Files) -> Path:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return root


def found(each: int, parts: tuple[str, ...] = ("",), side: int = 300, **changes: int) -> Survey:
    """Return a survey of two classes; ``train_Audi=1`` changes a count."""
    counts = {(label, part): each for part in parts for label in ("Audi", "Swift")}
    for key, count in changes.items():
        part, _, label = key.rpartition("_")
        counts[label, part] = count
    return Survey({key: count for key, count in counts.items() if count}, 300, 0, side)


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Start:
    """Return a function that runs the command next to the presets and returns the study."""
    shutil.copytree(ROOT / "presets", tmp_path / "presets")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(init, "_has_gpu", lambda: False)

    def run(what: object, output: str = "params.yaml", force: bool = False) -> Study:
        options = argparse.Namespace(start=str(what), output=Path(output), force=force)
        assert init.run(options) == 0
        return check(Path(output))

    return run


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_written(start: Start, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    start(name)
    assert Path("params.yaml").read_text() == apply_preset(name)
    steps = capsys.readouterr().out.splitlines()[2:]
    assert steps == {
        "archive": [
            "  set data.path in params.yaml to your zip",
            "  carbench weights",
            "  snakemake",
        ],
        "kaggle-cars": ["  carbench pin", "  snakemake"],
    }.get(name, ["  snakemake"])


@pytest.mark.parametrize("source", ["folder", "archive"])
@pytest.mark.parametrize(("counts", "method"), [(PUBLISHED, "published"), (PLAIN, "kfold")])
def test_a_set_of_images_becomes_a_study(
    start: Start,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    source: str,
    counts: dict[tuple[str, str], int],
    method: str,
) -> None:
    files = files_of(counts) | {"notes.txt": b"hello"}
    if source == "archive":
        with zipfile.ZipFile("cars.zip", "w") as archive:
            for name, content in files.items():
                archive.writestr(name, content)
        study = start("cars.zip")
        path = "cars.zip"
    else:
        write_folder(tmp_path / "my cars", files)
        study = start("my cars/")
        path = "my cars"
    assert (study.data.source, study.data.path) == (source, path)
    assert study.split.method == method
    assert (study.train.image_size, study.pack.size) == (32, 60)
    assert [each.model for each in study.backbones.values()] == [
        f"tf_efficientnet_lite{number}" for number in range(3)
    ]
    assert study.seeds == (list(range(5)) if method == "kfold" else [0, 1, 2])
    said = capsys.readouterr().out
    assert f"{path}: {sum(counts.values())} images of 2 classes (Audi " in said
    assert ("published parts: test 5, train 11" in said) == (method == "published")
    for key in ("split.method", "train.image_size", "train.device", "backbones", "seeds"):
        assert re.search(rf"^{key}: ", said, re.M)
    assert said.endswith("params.yaml is written. Next:\n  carbench weights\n  snakemake\n")


def test_the_file_keeps_the_comments(start: Start, tmp_path: Path) -> None:
    start(write_folder(tmp_path / "cars", files_of(PLAIN)))
    text = Path("params.yaml").read_text()
    sample = (ROOT / "presets/sample.yaml").read_text()
    comments = re.compile(r"  (# .*)$", re.M)
    lost = set(comments.findall(sample)) - set(comments.findall(text))
    assert lost == {
        "# learns slowly",
        "# random | {file: PATH, sha256: HEX} | {hub: OWNER/NAME, revision: COMMIT, sha256: HEX}",
    }  # both of backbones that are not in the study
    assert text.startswith("# 13 images of 2 classes. `carbench init` chose")


@pytest.mark.parametrize("name", ["on", "12:30", "1e3", "a: b", "ünï 'q' \"d\"", "#1, [x]"])
def test_unusual_paths_are_written_so_that_both_engines_read_them(
    start: Start, tmp_path: Path, name: str
) -> None:
    write_folder(tmp_path / name, files_of(PLAIN))
    assert start(name).data.path == name


def test_a_gpu_gets_larger_images_and_backbones(
    start: Start,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(init, "_has_gpu", lambda: True)
    start(write_folder(tmp_path / "cars", files_of(PLAIN, image((500, 400)))))
    study = check(Path("params.yaml"))
    assert (study.train.image_size, study.pack.size) == (224, 256)
    assert study.train.device == study.evaluate.device == study.cost.device == "cuda"
    assert "resnet50" in study.backbones
    assert study.data.classes == []
    assert study.tune.learning_rates == []  # kfold
    assert "  carbench pin\n  snakemake\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("survey", "method", "seeds"),
    [
        (found(300, ("train", "test")), "published", 3),
        (found(300, ("train", "val", "test")), "published", 3),
        (found(300, ("train", "val")), "grouped", 3),
        (found(300, ("train", "test"), test_Audi=0), "grouped", 3),
        (found(300, ("train", "test"), train_Audi=0), "grouped", 3),
        (found(300), "grouped", 3),
        (found(100), "kfold", 5),
        (found(100, _Audi=4), "grouped", 3),
        (found(9000), "grouped", 2),
    ],
)
def test_split_and_seeds_follow_the_images(survey: Survey, method: str, seeds: int) -> None:
    chosen = choose(survey, has_gpu=False)
    assert chosen.values["split.method"] == method
    assert len(chosen.values["seeds"]) == seeds


@pytest.mark.parametrize(
    ("side", "cpu", "gpu"),
    [
        (20, (32, 32), (32, 32)),
        (100, (96, 100), (96, 100)),
        (130, (128, 130), (128, 130)),
        (1000, (128, 160), (224, 256)),
    ],
)
def test_sizes_are_no_larger_than_the_images(
    side: int, cpu: tuple[int, int], gpu: tuple[int, int]
) -> None:
    for has_gpu, sizes in ((False, cpu), (True, gpu)):
        values = choose(found(300, side=side), has_gpu).values
        assert (values["train.image_size"], values["pack.size"]) == sizes


@pytest.mark.parametrize(
    ("survey", "words"),
    [
        (found(300, _Audi=2), ["too few images of Audi", "grouped", "at least 3", "data.exclude"]),
        (
            found(300, ("train", "test"), train_Audi=1),
            ["Audi", "2 of them outside the test folder"],
        ),
        (found(300, _Audi=19), ["fewer than 20 images of Audi"]),
        (Survey({("Audi", ""): 300, ("Swift", ""): 300}, 300, 7, 90), ["7 of 300 sampled files"]),
    ],
)
def test_problems_with_the_images_cause_a_warning(survey: Survey, words: list[str]) -> None:
    (warning,) = choose(survey, has_gpu=False).warnings
    for word in words:
        assert word in warning
    assert choose(found(300), has_gpu=False).warnings == []


def test_only_some_headers_are_read_and_no_image_is_decoded(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("an image was decoded")

    monkeypatch.setattr("carbench.cli.new_study.survey.MOST_MEASURED", 4)
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", refuse)
    truncated = image((800, 600))[:700]  # the header, and no pixels
    start(write_folder(tmp_path / "cars", files_of({("", "A"): 200, ("", "B"): 200}, truncated)))


@pytest.mark.parametrize(
    ("what", "files", "words"),
    [
        ("smoek", {}, ["smoek", "one of archive, kaggle-cars, sample, smoke", "write smoke"]),
        ("cars/all.zip", {}, ["cars/all.zip: found nothing", "or a preset (archive,"]),
        ("cars.zip", {}, ["cars.zip: found nothing", "correct the path"]),
        ("cars", {"cars/notes.txt": b"x"}, ["no images among 1 files", "folder or zip with your"]),
        ("cars", {"cars/Audi/1.jpg": image()}, ["1 class ['Audi']", "at least two classes"]),
        ("cars", {"cars/1.jpg": image(), "cars/2.jpg": image()}, ["0 class", "two classes"]),
        (
            "cars",
            {"cars/train/A/1.jpg": image(), "cars/train/B/1.jpg": image(), "cars/C/1.jpg": image()},
            ["images in C/, next to folders such as train/<class>/"],
        ),
        ("cars", {"cars/A/1.jpg": b"<html>", "cars/B/1.jpg": b""}, ["cannot be opened as images"]),
        ("cars.zip", {"cars.zip": b"hello"}, ["no readable zip", "a complete zip file"]),
        ("cars.zip", {"cars.zip": b"Rar!" + bytes(600)}, ["RAR, not a zip file"]),
        ("car.jpg", {"car.jpg": image()}, ["one image (JPEG)", "specify the folder that contains"]),
        ("a{b}", {"a{b}/A/1.jpg": image(), "a{b}/B/1.jpg": image()}, ["braces", "rename it"]),
    ],
)
def test_input_without_a_usable_set_of_images_is_rejected_with_a_fix(
    start: Start, tmp_path: Path, what: str, files: Files, words: list[str]
) -> None:
    write_folder(tmp_path, files)
    Path("params.yaml").write_text(apply_preset("smoke"))
    with pytest.raises(CarbenchError) as caught:
        start(what)
    for word in [*words, "found", "expected", "Fix:"]:
        assert word in str(caught.value)
    assert Path("params.yaml").read_text() == apply_preset("smoke")


def test_an_empty_folder_and_an_empty_class_are_rejected(start: Start, tmp_path: Path) -> None:
    (tmp_path / "cars").mkdir()
    with pytest.raises(CarbenchError, match="no images among 0 files"):
        start("cars")
    write_folder(tmp_path / "cars", files_of(PUBLISHED))
    (tmp_path / "cars/test/Creta").mkdir()
    with pytest.raises(CarbenchError, match="no image in test/Creta"):
        start("cars")
    assert not Path("params.yaml").exists()


def test_an_edited_file_is_not_overwritten(start: Start, tmp_path: Path) -> None:
    write_folder(tmp_path / "cars", files_of(PLAIN))
    start("smoke")
    start("sample")  # an unchanged preset may be replaced
    edited = apply_preset("sample").replace("epochs: 16", "epochs: 17")
    Path("params.yaml").write_text(edited)
    for what in ("smoke", "cars"):
        with pytest.raises(CarbenchError, match=r"differs from all presets.* --force"):
            start(what)
        assert Path("params.yaml").read_text() == edited
    start("cars", output="mine.yaml")
    start("cars", force=True)
    assert Path("params.yaml").read_text() == Path("mine.yaml").read_text()
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        *("cars", "mine.yaml", "params.yaml", "presets")
    ]  # no drafts


def test_an_invalid_preset_changes_nothing(start: Start, tmp_path: Path) -> None:
    (tmp_path / "presets/mine.yaml").write_text("train:\n  epochs: 0\n")
    start("smoke")
    with pytest.raises(CarbenchError, match=r"train\.epochs: found 0"):
        start("mine")
    assert Path("params.yaml").read_text() == apply_preset("smoke")


def test_a_folder_is_rejected_as_output(start: Start) -> None:
    with pytest.raises(CarbenchError, match="specify a file in it"):
        start("smoke", output="presets")


def carbench(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "carbench.cli.main", *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
    )


def test_version_help_and_errors_of_the_command_line(tmp_path: Path) -> None:
    assert re.fullmatch(r"carbench \d+\.\d+\.\d+\n", carbench("--version", cwd=tmp_path).stdout)
    elsewhere = carbench("init", "smoke", cwd=tmp_path)
    assert elsewhere.returncode == 1
    assert "run from the repository's root" in elsewhere.stderr
    shutil.copytree(ROOT / "presets", tmp_path / "presets")
    assert "(archive, kaggle-cars, sample, smoke)" in " ".join(
        carbench("init", "--help", cwd=tmp_path).stdout.split()
    )
    done = carbench("init", "smoke", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    refused = carbench("init", "nowhere", cwd=tmp_path)
    assert (refused.returncode, "Traceback" in refused.stderr) == (1, False)


@pytest.mark.slow
def test_a_study_of_the_real_images_can_be_planned(archive: Path, tmp_path: Path) -> None:
    project = copy_repository(tmp_path / "study")
    (project.root / "params.yaml").write_text(apply_preset(ROOT / "presets/sample.yaml"))
    said = project.run("carbench", "init", str(archive)).stdout
    assert "images of 7 classes" in said
    params = yaml.safe_load((project.root / "params.yaml").read_text())
    assert params["split"]["method"] == "published"
    assert params["data"]["path"] == str(archive)
    plan = project.run("snakemake", "-n", "--quiet", "rules").stdout
    assert re.search(r"^train +\d+", plan, re.M)
