"""The embedded sample: drawn cars of six body styles, with the faults of real sets planted.

It exists so that the whole study runs without a download, an account or a GPU, and so that every
claim of the audit can be held against a known truth. With images_per_class=250 (1,500 files):

| what                                                    | train |     test |
|---------------------------------------------------------|-------|----------|
| files                                                   | 1,200 |      300 |
| exact copies within the split                           |    48 |        6 |
| near copies within the split                            |    48 |        0 |
| exact copies of a train image (leaks)                 |     - |       38 |
| near copies of a train image (leaks)                  |     - |       37 |
| the same bytes under two classes (pairs)                |     2 |        0 |
| truncated, empty, text named .jpg (cannot be decoded)   |     5 |        1 |
| PNG, palette PNG, greyscale, EXIF-rotated (can be)      |     6 |        2 |

A near copy is resized, recompressed, cropped by 2-5 %, mirrored or recoloured. Of the published
test images 25 % leak: Saloon 60 %, Hatchback 44 %, Estate 26 %, SUV 16 %, Pick-up 4 %, Coupe 0 %.

The same seed gives the same bytes on every machine with the same versions of Pillow and numpy.
"""

from carbench.data.sample.planted import Copy, Planted, plan
from carbench.data.sample.styles import CLASSES
from carbench.data.sample.writing import draw_sample

__all__ = ["CLASSES", "Copy", "Planted", "draw_sample", "plan"]
