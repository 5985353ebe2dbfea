"""audit: group duplicate images, and report how they affect the published test set.

Writes ``groups.csv`` (one row per image, with its duplicate group), ``candidates.csv`` (pairs that
were compared closely, and their agreement), ``audit.json`` (the findings) and ``groups.jpg`` (a
contact sheet of groups).
"""

from itertools import chain
from pathlib import Path

import numpy as np

from carbench.core.stage import Stage, log, run_stage, stage_parser
from carbench.core.tables import read_table, write_json, write_table
from carbench.data.audit.contact_sheet import draw_sheet, save_sheet, select_groups
from carbench.data.audit.duplicates import pair_kind, score_pairs, separate_duplicates
from carbench.data.audit.findings import link_identical, summarize_audit
from carbench.data.audit.grouping import connected_groups, links_without_chains
from carbench.data.audit.review_table import read_reviewed_pairs, refuse_contradictions
from carbench.data.audit.verdicts import DIFFERENT, SAME
from carbench.data.audit.views import read_views
from carbench.params.audit import AuditParams


def audit(stage: Stage) -> None:
    params = stage.params("audit", AuditParams)
    data = stage.args.data
    manifest = read_table(data / "manifest.csv")
    quarantine = read_table(data / "quarantine.csv")
    images = [row["image"] for row in manifest]

    # Of byte-identical copies, only the first is read.
    links, first_of = link_identical([row["sha256"] for row in manifest])
    reviewed = read_reviewed_pairs(params.reviewed, images, first_of)
    unique = sorted(set(first_of))
    views = read_views(data / "images" / images[index] for index in unique)
    scored = score_pairs(views, params).of(np.array(unique))
    near, others = separate_duplicates(scored, params, reviewed)

    position = {index: number for number, index in enumerate(unique)}
    apart = {(position[first], position[second]) for first, second in reviewed.pairs(DIFFERENT)}
    same = links_without_chains(
        views,
        [pair.of(position) for pair in near],
        params.min_centre_agreement,
        apart,
    )
    links += [(unique[centre], unique[member]) for centre, member in same]
    groups = connected_groups(len(manifest), [*links, *reviewed.pairs(SAME)]).tolist()
    refuse_contradictions(reviewed, groups, images)

    found = set(near)
    findings = summarize_audit(manifest, quarantine, groups, first_of, near, reviewed)
    shown = select_groups(manifest, groups, first_of, near, params.shown_groups)
    with stage.outputs(stage.args.output) as out:
        write_table(
            out / "groups.csv",
            ["image", "class", "published", "group", "exact"],
            (
                {
                    "image": row["image"],
                    "class": row["class"],
                    "published": row["published"],
                    "group": number,
                    "exact": exact,
                }
                for row, number, exact in zip(manifest, groups, first_of, strict=True)
            ),
        )
        write_table(
            out / "candidates.csv",
            ["first", "second", "agreement", "mirrored", "kind", "verdict"],
            (
                {
                    "first": images[pair.first],
                    "second": images[pair.second],
                    "agreement": pair.agreement,
                    "mirrored": int(pair.mirrored),
                    "kind": pair_kind(pair, params, pair in found),
                    "verdict": reviewed.verdict(pair.first, pair.second),
                }
                for pair in chain(near, others)
            ),
        )
        write_json(out / "audit.json", findings)
        save_sheet(draw_sheet(shown, data / "images"), out / "groups.jpg")
    log.info(
        "%s images, %s unique, in %s duplicate groups; %d label conflicts",
        f"{findings['images']:,}",
        f"{findings['unique']:,}",
        f"{findings['groups']:,}",
        len(findings["conflicts"]),
    )
    leak = findings["leak"]
    if leak["test_images"]:
        log.info(
            "published test set: %d of %d images have a duplicate in train (%d byte-identical)",
            leak["near_or_exact"],
            leak["test_images"],
            leak["exact"],
        )


if __name__ == "__main__":
    parser = stage_parser(__doc__)
    parser.add_argument("--data", type=Path, required=True, help="output of fetch")
    parser.add_argument("--output", type=Path, required=True, help="folder to write to")
    run_stage(parser, audit)
