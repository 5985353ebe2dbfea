"""Opens the source that the `data:` section names."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from carbench.data.sources.listing import Listing, list_folder
from carbench.params.data import DataParams


@contextmanager
def open_source(params: DataParams, scratch: Path) -> Iterator[Listing]:
    """Yield the files of the source.

    Args:
        params: the `data:` section.
        scratch: an empty folder for generated files; the caller removes it.
    """
    if params.source == "archive":
        from carbench.data.sources.archive import list_archive

        with list_archive(Path(params.path), params.max_unpacked_gb) as listing:
            yield listing
    elif params.source == "folder":
        yield list_folder(Path(params.path))
    elif params.source == "kaggle":
        from carbench.data.sources.kaggle import download_dataset

        folder = download_dataset(params.kaggle.dataset, params.kaggle.version)
        yield list_folder(folder, key="data.kaggle")
    else:
        from carbench.data.sample import generate_sample

        generate_sample(scratch, params.sample.images_per_class, params.sample.seed)
        yield list_folder(scratch)
