"""`data:` - the source of the images (stage fetch)."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from carbench.core.params import Section

Fraction = Annotated[float, Field(ge=0, le=1)]
NOTHING_LOCAL = "presets/none"


class SampleParams(Section):
    """The embedded sample: number of images per class, and seed."""

    images_per_class: Annotated[int, Field(ge=12, le=100_000)]
    seed: Annotated[int, Field(ge=0)]


class KaggleParams(Section):
    """A dataset on Kaggle, pinned to one version."""

    dataset: Annotated[str, Field(pattern=r"^[\w-]+/[\w-]+$")]
    version: Annotated[int, Field(ge=1)]


class DataParams(Section):
    """Source, selected classes, and limits on bad images and archive size."""

    source: Literal["sample", "archive", "folder", "kaggle"]
    path: Annotated[str, Field(min_length=1)]
    sample: SampleParams
    kaggle: KaggleParams
    classes: list[str]
    exclude: list[str]
    max_bad_fraction: Fraction
    max_unpacked_gb: Annotated[float, Field(gt=0)]

    @property
    def is_local(self) -> bool:
        """Whether the source reads `path`."""
        return self.source not in ("sample", "kaggle")

    @model_validator(mode="after")
    def _path_fits_source(self) -> DataParams:
        if self.is_local == (self.path == NOTHING_LOCAL):
            raise ValueError(
                f"source {self.source!r} reads "
                + (
                    "a local path: name it"
                    if self.is_local
                    else f"no local path: write {NOTHING_LOCAL}"
                )
                + " in data.path"
            )
        if self.path.startswith("~"):
            raise ValueError("~ is not expanded in path: write the path without it")
        both = sorted(set(self.classes) & set(self.exclude))
        if both:
            raise ValueError(f"classes {both} are both chosen and excluded")
        return self
