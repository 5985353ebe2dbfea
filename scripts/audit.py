"""audit: group duplicate images, and report what duplicates mean for the published test set.

Writes ``groups.csv`` (one row per image, with its duplicate group), ``candidates.csv`` (pairs that
were compared closely, and their agreement), ``audit.json`` (the findings) and ``groups.jpg`` (a
contact sheet of groups).
"""

from pathlib import Path

from carbench.core.stage import Stage, log, run_stage, stage_parser
from carbench.core.tables import read_table, write_json, write_table
from carbench.data.audit.contact_sheet import draw, rows, save
from carbench.data.audit.duplicates import compare, kind_of, told_apart
from carbench.data.audit.findings import exact_links, summarize
from carbench.data.audit.grouping import group, unchained
from carbench.data.audit.looks import look_at
from carbench.data.audit.reviewed import read_reviewed, refuse_joined
from carbench.data.audit.words import DIFFERENT, SAME
from carbench.params.audit import AuditParams


def audit(stage: Stage) -> None:
    params = stage.params("audit", AuditParams)
    data = stage.args.data
    manifest = read_table(data / "manifest.csv")
    quarantine = read_table(data / "quarantine.csv")
    images = [row["image"] for row in manifest]

    # Of byte-identical copies, only the first is read: it represents all.
    links, first_of = exact_links([row["sha256"] for row in manifest])
    reviewed = read_reviewed(params.reviewed, images, first_of)
    unique = sorted(set(first_of))
    looks = look_at(data / "images" / images[index] for index in unique)
    compared = [pair.of(unique) for pair in compare(looks, params)]
    near, others = told_apart(compared, params, reviewed)

    place = {index: number for number, index in enumerate(unique)}
    apart = {(place[first], place[second]) for first, second in reviewed.pairs(DIFFERENT)}
    same = unchained(
        looks,
        [pair.of(place) for pair in near],
        params.min_centre_agreement,
        apart,
    )
    links += [(unique[centre], unique[member]) for centre, member in same]
    groups = group(len(manifest), [*links, *reviewed.pairs(SAME)]).tolist()
    refuse_joined(reviewed, groups, images)

    found = set(near)
    findings = summarize(manifest, quarantine, groups, first_of, near, reviewed)
    shown = rows(manifest, groups, first_of, near, params.shown_groups)
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
                    "kind": kind_of(pair, params, pair in found),
                    "verdict": reviewed.verdict(pair.first, pair.second),
                }
                for pair in [*near, *others]
            ),
        )
        write_json(out / "audit.json", findings)
        save(draw(shown, data / "images"), out / "groups.jpg")
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
