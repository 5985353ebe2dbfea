"""DVC's configuration of the cache and of locks, read without loading DVC."""

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
    """Return the cache of the repository in ``root``: ``cache.dir`` of DVC's configuration."""
    folder = (root / DVC / "cache").absolute()
    for file, own in _settings(root, "cache", "dir"):
        folder = (file.parent / Path(own).expanduser()).absolute()
    return folder


def open_content_store(root: Path = Path()) -> ContentStore:
    """Return DVC's cache as the store of results, used as DVC's configuration says."""
    kinds = dvc_option(root, "cache", "type").replace(" ", "").split(",")
    group = dvc_option(root, "cache", "shared") == "group"
    return ContentStore(cache_folder(root), group, kinds if kinds != [""] else ("reflink", "copy"))


def dvc_option(root: Path, section: str, option: str) -> str:
    """Return an option of DVC's configuration as it is written there, in lower case; "": none."""
    return next((own.lower() for _, own in reversed([*_settings(root, section, option)])), "")


def dvc_flag(root: Path, section: str, option: str) -> bool:
    """Return whether an option of DVC's configuration that is off by default is switched on."""
    return dvc_option(root, section, option) in ("true", "yes", "on", "1")


def _settings(root: Path, section: str, option: str) -> Iterator[tuple[Path, str]]:
    """Yield the files that have an option, with its value.

    Of the system's, the user's, the repository's and the clone's own configuration; later ones win.
    A test holds the answer to DVC's.

    Raises:
        CarbenchError: DVC cannot read one of them, either.
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
            own = ConfigObj(str(file)).get(section, {}).get(option)
        except (ConfigObjError, UnicodeDecodeError) as error:
            raise CarbenchError(
                file,
                found=" ".join(str(error).split()),
                expected="DVC's configuration",
                fix="correct it; `dvc config` changes single options",
            ) from None
        if own:
            yield file, ",".join(own) if isinstance(own, list) else str(own)
