"""pack: decode and resize every image once, for all backbones and seeds.

Writes ``images.npy``, a uint8 array (images, size, size, 3) that is memory-mapped, and
``index.csv``, which lists the image in each row and the width and height of its file.
"""

from pathlib import Path

from carbench.core.stage import Stage, log, run_stage, stage_parser
from carbench.core.tables import read_chunks, write_rows
from carbench.data.pack.reading import INDEX
from carbench.data.pack.writing import write_array
from carbench.params.pack import PackParams


def pack(stage: Stage) -> None:
    params = stage.params("pack", PackParams)
    data = stage.args.data
    columns = ("image", "width", "height")
    manifest = [
        row
        for chunk in read_chunks(data / "manifest.csv", columns)
        for row in zip(*chunk, strict=True)
    ]
    images = [data / "images" / image for image, *_ in manifest]
    with stage.outputs(stage.args.output) as out:
        size = write_array(out, images, params, stage.scratch)
        rows = ((row, *values) for row, values in enumerate(manifest))
        write_rows(out / INDEX, ("row", *columns), rows)
    log.info(
        "%s images of %d x %d pixels, %.1f MB",
        f"{len(images):,}",
        params.size,
        params.size,
        size / 1e6,
    )


if __name__ == "__main__":
    parser = stage_parser(__doc__)
    parser.add_argument("--data", type=Path, required=True, help="output of fetch")
    parser.add_argument("--output", type=Path, required=True, help="folder to write to")
    run_stage(parser, pack)
