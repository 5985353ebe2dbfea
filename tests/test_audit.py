"""The audit finds planted duplicates, and its groups, reviews and contact sheets are correct."""

from __future__ import annotations

import csv
import json
import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml
from edits import EDITS, edited
from PIL import Image

from carbench.core.errors import CarbenchError
from carbench.core.tables import write_table
from carbench.data.audit.contact_sheet import draw_sheet, save_sheet, select_groups
from carbench.data.audit.duplicates import ImagePair, best_agreement, score_pairs
from carbench.data.audit.grouping import connected_groups, links_without_chains
from carbench.data.audit.review_sheets import write_review
from carbench.data.audit.review_table import read_reviewed_pairs
from carbench.data.audit.views import Views, make_thumbnails, stack_views
from carbench.data.sample import generate_sample, plan_faults
from carbench.params.audit import AuditParams
from carbench.params.presets import read_preset
from conftest import ROOT, run_script


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def fetch_and_audit(params: Path, folder: Path) -> dict[str, str]:
    """Run both stages and return the duplicate group of each image."""
    for stage, arguments in (
        ("fetch", ["--output", folder / "data"]),
        ("audit", ["--data", folder / "data", "--output", folder / "audit"]),
    ):
        done = run_script(stage, "--params", params, *arguments)
        assert done.returncode == 0, done.stderr
    return {row["image"]: row["group"] for row in table(folder / "audit/groups.csv")}


def test_groups_are_the_transitive_closure() -> None:
    assert connected_groups(6, [(4, 5), (1, 4), (0, 2)]).tolist() == [0, 1, 0, 2, 1, 1]
    assert connected_groups(3, []).tolist() == [0, 1, 2]


CHOICES = AuditParams.model_validate(
    yaml.safe_load((ROOT / "params.yaml").read_text())["audit"] | {"shown_groups": 1}
)


def near(views: Views, choices: AuditParams = CHOICES) -> list[ImagePair]:
    return [pair for pair in score_pairs(views, choices) if pair.agreement >= choices.min_agreement]


def panorama(windows: list[tuple[int, int]]) -> Views:
    """Return views of windows (left, right) of one wide image of blots."""
    blots = np.random.default_rng(0).integers(0, 256, (12, 60), np.uint8)
    wide = Image.fromarray(blots).resize((1200, 240), Image.Resampling.BICUBIC)
    return stack_views(make_thumbnails(wide.crop((left, 0, right, 240))) for left, right in windows)


def test_a_chain_of_similar_images_does_not_join_different_images() -> None:
    # Each window shows most of the one before it, the last nothing of the first.
    views = panorama([(left, left + 300) for left in range(0, 400, 12)])
    pairs = near(views)
    count = views.image_of[-1] + 1
    assert (
        connected_groups(count, [(pair.first, pair.second) for pair in pairs]).tolist()
        == [0] * count
    )

    groups = connected_groups(
        count, links_without_chains(views, pairs, CHOICES.min_centre_agreement)
    )
    assert 1 < len(set(groups)) < count
    assert groups[0] != groups[-1]
    for number in set(groups):
        assert np.ptp(np.flatnonzero(groups == number)) * 12 <= 150  # half a window at most
    assert connected_groups(count, links_without_chains(views, pairs, 0)).tolist() == [0] * count


def test_crops_of_one_image_stay_together() -> None:
    """Crops at opposite edges are less similar to each other than each is to the whole."""
    views = panorama([(0, 300), (0, 270), (30, 300), (15, 285)])
    pairs = near(views)
    assert (
        connected_groups(
            4, links_without_chains(views, pairs, CHOICES.min_centre_agreement)
        ).tolist()
        == [0] * 4
    )
    # ... unless a person has separated one from the centre.
    apart = connected_groups(
        4, links_without_chains(views, [ImagePair(0, 1, 1.0, False)], 0, [(0, 1)])
    )
    assert apart.tolist() == [0, 0, 1, 2]  # near duplicates of the centre are not removed


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> list[Image.Image]:
    """Return distinct images of the sample, many of them similar."""
    folder = tmp_path_factory.mktemp("drawn")
    generate_sample(folder, 20, 5)
    planted = plan_faults(20, 5)
    copies = {link.copy for link in (*planted.exact_copies, *planted.near_copies)}
    names = sorted(set(planted.files) - copies - set(planted.undecodable) - set(planted.rotated))
    return [Image.open(folder / name).convert("RGB") for name in names]


@pytest.mark.slow
def test_edited_copies_are_found_without_false_pairs(drawn: list[Image.Image]) -> None:
    """Nearly all copies of eight images, one per edit, are found, and nothing else."""
    names = [name for name in EDITS if name not in ("cropped by 20 %", "screenshot in a frame")]
    originals = random.Random(1).sample(range(len(drawn)), 8)
    copies = [(number, name) for name in names for number in originals]
    images = [*drawn, *(edited(name, drawn[number], number, 0) for number, name in copies)]
    truth = [*range(len(drawn)), *(number for number, _ in copies)]
    views = stack_views(map(make_thumbnails, images))

    # With as many neighbours as an image has copies here, no copy is crowded out by another.
    choices = CHOICES.model_copy(update={"neighbours": 2 * len(names)})
    pairs = {(pair.first, pair.second) for pair in near(views, choices)}
    assert all(truth[first] == truth[second] for first, second in pairs)
    found = Counter(
        kind for place, (number, kind) in enumerate(copies) if (number, len(drawn) + place) in pairs
    )
    assert found.total() >= 0.96 * len(copies), found
    assert min(found[name] for name in names) >= 6, found


def test_images_with_the_same_background_are_not_duplicates(drawn: list[Image.Image]) -> None:
    """Another car in front of the same wall: the margins are identical, the middle differs."""
    images = [drawn[0].resize((320, 240)), *(each.resize((320, 240)) for each in drawn[1:21])]
    before_wall = []
    for car in images[1:]:
        image = images[0].copy()
        image.paste(car.crop((70, 60, 250, 190)), (70, 60))
        before_wall.append(image)
    views = stack_views(map(make_thumbnails, [images[0], *before_wall]))
    others = np.arange(1, len(before_wall) + 1)
    assert (best_agreement(views, np.zeros_like(others), others) < CHOICES.min_agreement).all()


def test_images_without_edges_are_never_near_duplicates() -> None:
    views = stack_views(
        make_thumbnails(Image.new("RGB", (80, 60), (shade,) * 3)) for shade in (10, 11, 200)
    )
    assert near(views) == []
    assert len(score_pairs(stack_views([]), CHOICES)) == 0


def test_the_contact_sheet_shows_each_kind_of_group(tmp_path: Path) -> None:
    names = ["test/Coupe/a.png", "test/SUV/b.png", "train/Coupe/a.png", "train/Coupe/c.png"]
    names += ["train/Coupe/d.png", "train/SUV/e.png", "train/SUV/f.png"]
    manifest = [
        {"image": name, "class": name.split("/")[1], "published": name.split("/")[0]}
        for name in names
    ]
    for name, shade in zip(names, range(20, 240, 30), strict=False):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 30), (shade, 0, 0)).save(tmp_path / name)
    groups, first_of = [0, 1, 0, 2, 2, 1, 3], [0, 1, 0, 3, 4, 5, 6]
    pairs = [ImagePair(1, 5, 0.97, True), ImagePair(3, 4, 0.99, False)]
    shown = select_groups(manifest, groups, first_of, pairs, 12)
    assert sorted([[member.image for member in row] for row in shown]) == [
        [names[0], names[2]],
        [names[1], names[5]],
        [names[3], names[4]],
    ]
    relations = {row[1].image: row[1].relation for row in shown}
    assert relations == {
        names[2]: "identical bytes",
        names[5]: "mirrored, 0.97",
        names[4]: "near duplicate, 0.99",
    }
    assert len(select_groups(manifest, groups, first_of, pairs, 2)) == 2
    assert draw_sheet(shown, tmp_path).height > draw_sheet(shown[:1], tmp_path).height

    mixed = [dict(row) for row in manifest]
    mixed[4]["class"] = "SUV"
    assert select_groups(mixed, groups, first_of, pairs, 1)[0][1].image == names[4]

    # The bytes are reproducible, and a set without duplicates gives a sheet that states this.
    for path in (tmp_path / "one.jpg", tmp_path / "two.jpg"):
        save_sheet(draw_sheet(shown, tmp_path), path)
    assert (tmp_path / "one.jpg").read_bytes() == (tmp_path / "two.jpg").read_bytes()
    assert select_groups(manifest, list(range(7)), list(range(7)), [], 12) == []
    assert len(draw_sheet([], tmp_path).getcolors()) > 1


IMAGES = ["a.jpg", "b.jpg", "copy of a.jpg", "c, or so.jpg"]
FIRST_OF = [0, 1, 0, 3]


def write_text(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_verdicts_are_read_as_spreadsheets_write_them(tmp_path: Path) -> None:
    path = write_text(
        tmp_path / "reviewed.csv",
        "\ufeffimage;twin;agreement;verdict\nb.jpg;copy of a.jpg;0,93; Same\n"
        "c, or so.jpg;a.jpg;0,9;different\nb.jpg;c, or so.jpg;0,8;\na.jpg;copy of a.jpg;1;same\n",
    )
    reviewed = read_reviewed_pairs(str(path), IMAGES, FIRST_OF)
    assert reviewed.pairs("same") == [(0, 1)]  # identical files need no verdict
    assert reviewed.pairs("different") == [(0, 3)]
    assert read_reviewed_pairs("presets/none", IMAGES, FIRST_OF).pairs("same") == []


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ("image,twin\na.jpg,b.jpg", ["line 1", "no column verdict"]),
        ("image,twin,verdict\na.jpg,b.jpg,twins", ["line 2", "'twins'", "same or different"]),
        ("image,twin,verdict\na.jpg,d.jpg,same", ["line 2", "twin 'd.jpg'", "manifest.csv"]),
        ("image,twin,verdict\na.jpg,a.jpg,same", ["line 2", "byte-identical"]),
        ("image,twin,verdict\na.jpg,copy of a.jpg,different", ["line 2", "byte-identical"]),
        (
            "image,twin,verdict\na.jpg,b.jpg,same\nb.jpg,copy of a.jpg,different",
            ["line 3", "'different'", "'same' in line 2"],
        ),
    ],
)
def test_an_invalid_review_is_rejected(tmp_path: Path, lines: str, expected: list[str]) -> None:
    path = write_text(tmp_path / "reviewed.csv", lines)
    with pytest.raises(CarbenchError) as refused:
        read_reviewed_pairs(str(path), IMAGES, FIRST_OF)
    assert all(words in str(refused.value) for words in [str(path), *expected])
    with pytest.raises(CarbenchError, match=r"No such file"):
        read_reviewed_pairs(str(tmp_path / "none.csv"), IMAGES, FIRST_OF)


@pytest.mark.slow
def test_groups_split_and_leak_follow_the_verdicts(
    study: Callable[..., Path], tmp_path: Path
) -> None:
    """A false pair is separated, a missed one joined, and contradictory verdicts are rejected."""
    size = {"data.sample.images_per_class": 20, "data.sample.seed": 3}
    params = study(size)
    before = fetch_and_audit(params, tmp_path)
    pairs = table(tmp_path / "audit/candidates.csv")
    assert {row["kind"] for row in pairs} <= {"found", "doubtful", "other"}
    groups = list(before.values())
    wrong = next(
        row for row in pairs if row["kind"] == "found" and groups.count(before[row["first"]]) == 2
    )
    missed = next(
        row
        for row in pairs
        if row["kind"] != "found"
        and "test/" in row["first"]
        and "train/" in row["second"]
        and groups.count(before[row["first"]]) == 1
    )
    verdicts = [wrong | {"verdict": "different"}, missed | {"verdict": "same"}]
    review = tmp_path / "reviewed.csv"
    write_table(
        review,
        ["image", "twin", "verdict"],
        [
            {"image": row["first"], "twin": row["second"], "verdict": row["verdict"]}
            for row in verdicts
        ],
    )
    params = study(size | {"audit.reviewed": str(review), "split.method": "published"})
    after = fetch_and_audit(params, tmp_path)
    assert after[wrong["first"]] != after[wrong["second"]]
    assert after[missed["first"]] == after[missed["second"]]
    findings = json.loads((tmp_path / "audit/audit.json").read_text())
    assert findings["reviewed"] == {"same": 1, "different": 1}

    done = run_script(
        *("split", "--params", params, "--audit", tmp_path / "audit"),
        *("--output", tmp_path / "split"),
    )
    assert done.returncode == 0, done.stderr
    split = {row["image"]: row for row in table(tmp_path / "split/split.csv")}
    assert split[missed["first"]]["leaked"] == "1"
    doubtful = {row["image"]: row for row in table(tmp_path / "split/doubtful.csv")}
    assert doubtful[missed["first"]]["verdict"] == "same"
    clean = {name for name, row in split.items() if (row["split"], row["leaked"]) == ("test", "0")}
    assert clean >= doubtful.keys() - {missed["first"]}
    residual = json.loads((tmp_path / "split/residual.json").read_text())
    assert residual["confirmed"] == 1
    assert residual["files"] - 1 == len(doubtful) - 1 + residual["without_candidate"]

    # The files for review keep the verdicts, and the audit reads them.
    for found in (False, True):
        written_review = write_review(tmp_path, tmp_path / "review", review, 5, found)
        written = table(tmp_path / "review/reviewed.csv")
        judged = [row["verdict"] for row in written if row["verdict"]]
        assert judged == ["different", "same"] and written_review.reviewed == 2
        assert len(written) - 2 == written_review.waiting > 0
        assert [sheet.stat().st_size > 1000 for sheet in written_review.sheets] == [True] * len(
            written_review.sheets
        )
        images = list(before)
        path = str(tmp_path / "review/reviewed.csv")
        assert len(read_reviewed_pairs(path, images, range(len(images))).verdicts) == 2

    # One group through a third image: the verdicts contradict other pairs.
    third = next(name for name in before if groups.count(before[name]) == 1)
    with review.open("a") as file:
        for name in (wrong["first"], wrong["second"]):
            file.write(f"{name},{third},same\n")
    done = run_script(
        *("audit", "--params", params, "--data", tmp_path / "data", "--output", tmp_path / "again")
    )
    assert done.returncode == 1
    assert "as different, but each is the same image as" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_planted_faults_of_the_sample_are_found(study: Callable[..., Path], tmp_path: Path) -> None:
    planted = plan_faults(60, 3)
    params = study({"data.sample.images_per_class": 60, "data.sample.seed": 3})
    group_of = fetch_and_audit(params, tmp_path)
    # Every byte-identical copy is found, and nearly all changed ones (docs/audit.md has the rates).
    assert all(group_of[copy.copy] == group_of[copy.original] for copy in planted.exact_copies)
    found = [copy for copy in planted.near_copies if group_of[copy.copy] == group_of[copy.original]]
    assert len(found) >= 0.95 * len(planted.near_copies)

    # No two independently drawn images share a group.
    links = [*planted.exact_copies, *planted.near_copies]
    position = {image: index for index, image in enumerate(group_of)}
    pairs = [(position[link.copy], position[link.original]) for link in links]
    truth = dict(zip(group_of, connected_groups(len(position), pairs).tolist(), strict=True))
    true_groups_of: dict[str, set[int]] = {}
    for image, number in group_of.items():
        true_groups_of.setdefault(number, set()).add(truth[image])
    assert all(len(numbers) == 1 for numbers in true_groups_of.values())

    quarantined = {row["file"] for row in table(tmp_path / "data/quarantine.csv")}
    assert quarantined == set(planted.undecodable)
    findings = json.loads((tmp_path / "audit/audit.json").read_text())
    assert findings["cut"] == []
    assert sum(each["groups"] for each in findings["by_class"].values()) >= findings["groups"]
    assert {label: each["images"] for label, each in findings["by_class"].items()} == findings[
        "classes"
    ]
    leak = findings["leak"]
    assert leak["exact"] == len(planted.exact_leaks)
    assert leak["exact"] < leak["near_or_exact"] <= len(planted.leaked)
    assert {image for conflict in findings["conflicts"] for image in conflict["images"]} >= {
        name for copy in planted.label_conflicts for name in (copy.copy, copy.original)
    }
    assert {row["image"] for row in findings["misnamed"]} == {*planted.png, *planted.palette}


@pytest.mark.slow
def test_a_mirrored_copy_is_found_only_if_asked_for(
    study: Callable[..., Path], tmp_path: Path
) -> None:
    planted = plan_faults(60, 3)
    keys = {"data.sample.images_per_class": 60, "data.sample.seed": 3, "audit.mirrored": False}
    group_of = fetch_and_audit(study(keys), tmp_path)
    mirrored = [copy for copy in planted.near_copies if copy.transform == "mirrored"]
    assert mirrored
    assert all(group_of[copy.copy] != group_of[copy.original] for copy in mirrored)


@pytest.mark.slow
def test_findings_for_the_real_images_agree_with_known_facts(
    study: Callable[..., Path], archive: Path, tmp_path: Path
) -> None:
    """This archive lacks 200 unique test images of the 4,165 images (3,455 unique files).

    188 test images have a byte-identical duplicate in train, 250 to 265 have any duplicate; five
    files named .jpg are palette PNGs; the leak differs between classes.
    """
    default = read_preset(ROOT / "presets/archive.yaml")["audit"]
    keys = {f"audit.{key}": value for key, value in default.items()}
    params = study({"data.source": "archive", "data.path": str(archive)} | keys)
    fetch_and_audit(params, tmp_path)
    findings = json.loads((tmp_path / "audit/audit.json").read_text())
    assert findings["images"] == 4165 - 200
    assert findings["unique"] == 3455 - 200
    leak = findings["leak"]
    assert leak["test_images"] == 813 - 200
    assert leak["exact"] == 188
    assert 250 <= leak["near_or_exact"] <= 265
    assert [row["mode"] for row in findings["misnamed"]] == ["P"] * 5
    shares = {
        label: counts["near_or_exact"] / counts["test_images"]
        for label, counts in leak["by_class"].items()
    }
    assert max(shares, key=lambda label: shares[label]) in ("Tata Safari", "Hyundai Creta")
    assert shares["Rolls Royce"] == 0
    assert findings["conflicts"] == []
    assert findings["cut"] == []
    assert (tmp_path / "audit/groups.jpg").stat().st_size > 100_000
