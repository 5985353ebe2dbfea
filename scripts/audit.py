"""audit: group the pictures that are the same picture, and say what that means for the test set.

Writes ``groups.csv`` (a row a picture: its duplicate group), ``audit.json`` (the findings) and
``groups.jpg`` (a contact sheet of groups).
"""

from pathlib import Path

from carbench.audit.contact_sheet import draw, rows, save
from carbench.audit.duplicates import look_at, near_pairs
from carbench.audit.findings import exact_links, summarize
from carbench.audit.grouping import group, unchained
from carbench.params.audit import AuditParams
from carbench.stage import Stage, log, run_stage, stage_parser
from carbench.tables import read_table, write_json, write_table


def audit(stage: Stage) -> None:
    params = stage.params("audit", AuditParams)
    data = stage.args.data
    manifest = read_table(data / "manifest.csv")
    quarantine = read_table(data / "quarantine.csv")

    # Byte-identical copies are looked at once: the first of them stands for all.
    links, first_of = exact_links([row["sha256"] for row in manifest])
    unique = sorted(set(first_of))
    looks = look_at(data / "images" / manifest[index]["image"] for index in unique)
    near = near_pairs(looks, params)
    same = unchained(looks, near, params.min_centre_correlation)
    links += [(unique[centre], unique[member]) for centre, member in same]
    groups = group(len(manifest), links).tolist()
    pairs = [pair.of(unique) for pair in near]

    findings = summarize(manifest, quarantine, groups, first_of, pairs)
    shown = rows(manifest, groups, first_of, pairs, params.shown_groups)
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
        write_json(out / "audit.json", findings)
        save(draw(shown, data / "images"), out / "groups.jpg")
    log.info(
        "%s pictures, %s unique, in %s duplicate groups; %d label conflicts",
        f"{findings['pictures']:,}",
        f"{findings['unique']:,}",
        f"{findings['groups']:,}",
        len(findings["conflicts"]),
    )
    leak = findings["leak"]
    if leak["test_pictures"]:
        log.info(
            "published test set: %d of %d pictures have a twin in train (%d byte-identical)",
            leak["near_or_exact"],
            leak["test_pictures"],
            leak["exact"],
        )


if __name__ == "__main__":
    parser = stage_parser(__doc__)
    parser.add_argument("--data", type=Path, required=True, help="what fetch wrote")
    parser.add_argument("--output", type=Path, required=True, help="folder to write to")
    run_stage(parser, audit)
