"""Where DVC's cache lies, read from its configuration without loading DVC."""

from __future__ import annotations

import os
from pathlib import Path

from configobj import ConfigObj
from platformdirs import site_config_dir, user_config_dir

DVC = Path(".dvc")


def cache_folder(root: Path = Path()) -> Path:
    """Return the cache of the repository in ``root``: ``cache.dir`` of DVC's configuration.

    Read from the system's, the user's, the repository's and the clone's own configuration, of which
    later ones win; a test holds the answer to DVC's.
    """
    files = [
        Path(os.getenv("DVC_SYSTEM_CONFIG_DIR") or site_config_dir("dvc", "iterative")) / "config",
        Path(os.getenv("DVC_GLOBAL_CONFIG_DIR") or user_config_dir("dvc", "iterative")) / "config",
        root / DVC / "config",
        root / DVC / "config.local",
    ]
    folder = (root / DVC / "cache").absolute()
    for file in files:
        if file.is_file():
            own = ConfigObj(str(file)).get("cache", {}).get("dir")
            if own:
                folder = (file.parent / Path(own).expanduser()).absolute()
    return folder
