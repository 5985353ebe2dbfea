"""fetch: get the images, keep those that can be decoded, and list the others with the reason.

Writes ``images/``, ``manifest.csv`` (one row per image) and ``quarantine.csv`` (one row per
rejected file).
"""

import shutil
from collections import Counter
from pathlib import Path

from carbench.core.stage import Stage, log, run_stage, stage_parser
from carbench.core.tables import write_table
from carbench.data.sources.ingest import MANIFEST_COLUMNS, QUARANTINE_COLUMNS, ingest_images
from carbench.data.sources.open_source import open_source
from carbench.params.data import DataParams


def fetch(stage: Stage) -> None:
    params = stage.params("data", DataParams)
    origin = params.path if params.is_local else f"source {params.source!r}"
    with stage.outputs(stage.args.output) as out:
        scratch, images = out / "scratch", out / "images"
        scratch.mkdir()
        images.mkdir()
        with open_source(params, scratch) as listing:
            result = ingest_images(listing, params, origin, images)
        shutil.rmtree(scratch)
        write_table(out / "manifest.csv", MANIFEST_COLUMNS, result.manifest)
        write_table(out / "quarantine.csv", QUARANTINE_COLUMNS, result.quarantine)

    log.info("%s: %s images", origin, f"{len(result.manifest):,}")
    if result.quarantine:
        counts = Counter(str(row["reason"]) for row in result.quarantine).most_common()
        log.warning(
            "%s: %d of %s files were rejected; they are listed in %s: %s%s",
            origin,
            len(result.quarantine),
            f"{len(result.manifest) + len(result.quarantine):,}",
            stage.args.output / "quarantine.csv",
            "; ".join(f"{count} {reason}" for reason, count in counts[:3]),
            "; ..." if len(counts) > 3 else "",
        )
    if result.other_classes:
        log.info("%d images of classes that were not selected were ignored", result.other_classes)
    if result.hidden:
        log.info("%d hidden files (.DS_Store and the like) were ignored", result.hidden)


if __name__ == "__main__":
    parser = stage_parser(__doc__)
    parser.add_argument("--output", type=Path, required=True, help="folder to write to")
    run_stage(parser, fetch)
