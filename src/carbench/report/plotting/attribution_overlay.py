"""Overlays of attribution maps: the image in grey, with vermilion where the map is high."""

from __future__ import annotations

from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from carbench.core.tables import damaged, missing

# Vermilion, which is distinguishable from grey with all common forms of colour blindness.
WARM = np.array([230, 80, 0], dtype=np.float64)
STRONGEST = 0.75

Pixels = NDArray[np.uint8]


def read_explanations(path: Path) -> tuple[Pixels, Pixels]:
    """Return model inputs as images, (M, S, S, 3), and their attribution maps, (M, S, S).

    Raises:
        CarbenchError: the file is missing or damaged.
    """
    try:
        with np.load(path) as arrays:
            return arrays["images"], arrays["maps"]
    except FileNotFoundError:
        raise missing(path) from None
    except (BadZipFile, ValueError, KeyError) as error:
        raise damaged(path, str(error)) from None


def overlay_attribution(image: Pixels, heat: Pixels) -> Pixels:
    """Return an image in grey with its attribution map overlaid.

    Args:
        image: (H, W, 3) RGB.
        heat: (H, W) attribution map, from 0 for none to 255 for the highest attribution.

    Returns:
        (H, W, 3) RGB.
    """
    grey = image @ np.array([0.299, 0.587, 0.114])  # luma, ITU-R BT.601
    share = STRONGEST * heat[..., None] / 255
    mixed: Pixels = np.rint((1 - share) * grey[..., None] + share * WARM).astype(np.uint8)
    return mixed
