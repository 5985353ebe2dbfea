"""One way in for all sources: from the `data:` section to the listing of files."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from carbench.data.sources.files import Listing, folder_listing
from carbench.params.data import DataParams


@contextmanager
def open_source(params: DataParams, scratch: Path) -> Iterator[Listing]:
    """Yield what the source that ``params`` names holds.

    Args:
        params: the `data:` section.
        scratch: an empty folder for what the source has to make; the caller removes it.
    """
    if params.source == "archive":
        from carbench.data.sources.archive import archive_listing

        with archive_listing(Path(params.path), params.max_unpacked_gb) as listing:
            yield listing
    elif params.source == "folder":
        yield folder_listing(Path(params.path))
    elif params.source == "kaggle":
        from carbench.data.sources.kaggle import download

        folder = download(params.kaggle.dataset, params.kaggle.version)
        yield folder_listing(folder, key="data.kaggle")
    else:
        from carbench.data.sample import generate_sample

        generate_sample(scratch, params.sample.images_per_class, params.sample.seed)
        yield folder_listing(scratch)
