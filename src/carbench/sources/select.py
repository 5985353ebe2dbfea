"""One way in for all sources: from the `data:` section to the stream of files."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from carbench.params.data import DataParams
from carbench.sources.files import SourceFile, folder_files


@contextmanager
def open_source(params: DataParams, scratch: Path) -> Iterator[list[SourceFile]]:
    """Yield the files of the source that ``params`` names, sorted by path.

    Args:
        params: the `data:` section.
        scratch: an empty folder for what the source has to make; the caller removes it.
    """
    if params.source == "archive":
        from carbench.sources.archive import archive_files

        with archive_files(Path(params.path), params.max_unpacked_gb) as files:
            yield files
    elif params.source == "folder":
        yield list(folder_files(Path(params.path)))
    elif params.source == "kaggle":
        from carbench.sources.kaggle import download

        folder = download(params.kaggle.dataset, params.kaggle.version)
        yield list(folder_files(folder, key="data.kaggle"))
    else:
        from carbench.sample import draw_sample

        draw_sample(scratch, params.sample.images_per_class, params.sample.seed)
        yield list(folder_files(scratch))
