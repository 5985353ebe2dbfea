"""pack: decode and resize every picture once, for all backbones and seeds.

Writes ``images.npy``, a uint8 array (pictures, size, size, 3) that is memory-mapped, and
``index.csv``, which says which picture is in which row, and how many pixels its file has.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from carbench.images import read, resize
from carbench.parallel import in_order
from carbench.params.pack import PackParams
from carbench.pictures.pack import INDEX, create_array
from carbench.progress import progress
from carbench.stage import Stage, log, run_stage, stage_parser
from carbench.tables import read_table, write_table


def pack(stage: Stage) -> None:
    params = stage.params("pack", PackParams)
    data = stage.args.data
    manifest = read_table(data / "manifest.csv")
    images = [row["image"] for row in manifest]

    def shrink(image: str) -> NDArray[np.uint8]:
        return np.asarray(resize(read(data / "images" / image), params.size, params.fit))

    with stage.outputs(stage.args.output) as out:
        array = create_array(out, len(images), params.size)
        for row, pixels in enumerate(progress(in_order(shrink, images), "pack", len(images))):
            array[row] = pixels
        array.flush()
        write_table(
            out / INDEX,
            ["row", "image", "width", "height"],
            (
                {"row": row, **{key: picture[key] for key in ("image", "width", "height")}}
                for row, picture in enumerate(manifest)
            ),
        )
    log.info(
        "%s pictures of %d x %d pixels, %.1f MB",
        f"{len(images):,}",
        params.size,
        params.size,
        array.nbytes / 1e6,
    )


if __name__ == "__main__":
    parser = stage_parser(__doc__)
    parser.add_argument("--data", type=Path, required=True, help="what fetch wrote")
    parser.add_argument("--output", type=Path, required=True, help="folder to write to")
    run_stage(parser, pack)
