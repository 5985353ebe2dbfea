"""fetch: get the pictures, keep those that decode, list the rest with the reason.

Writes ``images/``, ``manifest.csv`` (a row a picture) and ``quarantine.csv`` (a row a file that
was not taken).
"""

import shutil
from pathlib import Path

from carbench.collecting import MANIFEST, QUARANTINE, collect
from carbench.params.data import DataParams
from carbench.sources.select import open_source
from carbench.stage import Stage, log, run_stage, stage_parser
from carbench.tables import write_table


def fetch(stage: Stage) -> None:
    params = stage.params("data", DataParams)
    local = params.source in ("archive", "folder")
    origin = params.path if local else f"source {params.source!r}"
    with stage.outputs(stage.args.output) as out:
        scratch, images = out / "scratch", out / "images"
        scratch.mkdir()
        images.mkdir()
        with open_source(params, scratch) as files:
            collected = collect(files, params, origin, images)
        shutil.rmtree(scratch)
        write_table(out / "manifest.csv", MANIFEST, collected.manifest)
        write_table(out / "quarantine.csv", QUARANTINE, collected.quarantine)

    log.info("%s: %s pictures", origin, f"{len(collected.manifest):,}")
    if collected.quarantine:
        log.warning(
            "%s: %d of %s files could not be taken; they are listed with the reason in %s",
            origin,
            len(collected.quarantine),
            f"{len(collected.manifest) + len(collected.quarantine):,}",
            stage.args.output / "quarantine.csv",
        )
    if collected.other_classes:
        log.info("%d pictures of classes that were not chosen", collected.other_classes)
    if collected.hidden:
        log.info("%d hidden files (.DS_Store and the like) were passed over", collected.hidden)


if __name__ == "__main__":
    parser = stage_parser(__doc__)
    parser.add_argument("--output", type=Path, required=True, help="folder to write to")
    run_stage(parser, fetch)
