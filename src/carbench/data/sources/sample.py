"""sample: generated images of cars, for a study without a data set."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from carbench.data.sample import generate_sample
from carbench.data.sources.folder import list_folder
from carbench.data.sources.listing import Listing
from carbench.params.data import DataParams


@contextmanager
def open_source(params: DataParams, scratch: Path) -> Iterator[Listing]:
    """Yield the listing of the images, which are generated in ``scratch``."""
    generate_sample(scratch, params.sample.images_per_class, params.sample.seed)
    yield list_folder(scratch)
