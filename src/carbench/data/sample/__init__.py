"""The embedded sample: drawn cars of six body styles, with the faults of real data sets.

With it, a whole study runs without a download, an account or a GPU, and the results of the audit
can be compared with a known ground truth. With images_per_class=250 (1,500 files):

|                                                         | train |     test |
|---------------------------------------------------------|-------|----------|
| files                                                   | 1,200 |      300 |
| exact copies within the split                           |    48 |        6 |
| near copies within the split                            |    48 |        0 |
| exact copies of a train image (leaks)                   |     - |       38 |
| near copies of a train image (leaks)                    |     - |       37 |
| pairs of identical files in two classes                 |     2 |        0 |
| undecodable: truncated, empty, text named .jpg          |     5 |        1 |
| decodable: PNG, palette PNG, greyscale, EXIF-rotated    |     6 |        2 |

A near copy is resized, recompressed, cropped by 2-5 %, mirrored or recoloured. 25 % of the
published test images are leaked: Saloon 60 %, Hatchback 44 %, Estate 26 %, SUV 16 %, Pick-up 4 %,
Coupe 0 %.

The same seed gives the same bytes on every machine with the same versions of Pillow and numpy.
"""

from carbench.data.sample.body_styles import CLASSES
from carbench.data.sample.faults import PlantedCopy, PlantedFaults, plan_faults
from carbench.data.sample.generate import generate_sample

__all__ = ["CLASSES", "PlantedCopy", "PlantedFaults", "generate_sample", "plan_faults"]
