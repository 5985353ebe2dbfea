"""DVC's configuration of its cache and locks, read without importing DVC."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from configobj import ConfigObj, ConfigObjError
from platformdirs import site_config_dir, user_config_dir

from carbench.core.errors import CarbenchError
from carbench.engines.content_store import ContentStore

DVC = Path(".dvc")


def cache_folder(root: Path = Path()) -> Path:
    """Return the folder of DVC's cache: ``cache.dir`` in its configuration."""
    folder = (root / DVC / "cache").absolute()
    for file, value in _config_values(root, "cache", "dir"):
        folder = (file.parent / Path(value).expanduser()).absolute()
    return folder


def open_content_store(root: Path = Path()) -> ContentStore:
    """Return the content store on DVC's cache, with link types and permissions as configured."""
    links = dvc_option(root, "cache", "type").replace(" ", "").split(",")
    group = dvc_option(root, "cache", "shared") == "group"
    return ContentStore(cache_folder(root), group, links if links != [""] else ("reflink", "copy"))


def dvc_option(root: Path, section: str, option: str) -> str:
    """Return an option of DVC's configuration in lower case, or "" if it is not set."""
    values = [value.lower() for _, value in _config_values(root, section, option)]
    return values[-1] if values else ""


def dvc_flag(root: Path, section: str, option: str) -> bool:
    """Return whether an option of DVC's configuration that is off by default is on."""
    return dvc_option(root, section, option) in ("true", "yes", "on", "1")


def _config_values(root: Path, section: str, option: str) -> Iterator[tuple[Path, str]]:
    """Yield the value of an option in each configuration file that sets it; the last one counts.

    The files are those of the system, the user, the repository and the clone. A test compares the
    result with DVC's.

    Raises:
        CarbenchError: a file is not valid; DVC cannot read it either.
    """
    for file in (
        Path(os.getenv("DVC_SYSTEM_CONFIG_DIR") or site_config_dir("dvc", "iterative")) / "config",
        Path(os.getenv("DVC_GLOBAL_CONFIG_DIR") or user_config_dir("dvc", "iterative")) / "config",
        root / DVC / "config",
        root / DVC / "config.local",
    ):
        if not file.is_file():
            continue
        try:
            value = ConfigObj(str(file)).get(section, {}).get(option)
        except (ConfigObjError, UnicodeDecodeError) as error:
            raise CarbenchError(
                file,
                found=" ".join(str(error).split()),
                expected="DVC's configuration",
                fix="correct it; `dvc config` changes single options",
            ) from None
        if value:
            yield file, ",".join(value) if isinstance(value, list) else str(value)
