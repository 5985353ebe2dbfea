"""Comparison of experiments: statistics, shared images, messages and errors."""

from __future__ import annotations

import argparse
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from carbench.cli.commands import compare
from carbench.cli.experiments.formatting import changed_params, remarks, text, verdict
from carbench.core.errors import CarbenchError
from carbench.engines.revisions import open_revision
from carbench.statistics.experiment_comparison import Experiment, compare_experiments, merge_groups
from carbench.statistics.predictions import align
from conftest import Project

RULE = {"confidence": 0.95, "margin": 0.01}


def table(right: Any, first: int = 0, leaked: int = 0) -> pd.DataFrame:
    """Return predictions of images from ``first`` on: classes alternate, two images per group."""
    right = np.asarray(right, bool)
    numbers = first + np.arange(len(right))
    labels = np.array(["a", "b"])[numbers % 2]
    return pd.DataFrame(
        {
            "image": [f"{number:04}.jpg" for number in numbers],
            "class": labels,
            "group": numbers // 2,
            "leaked": (np.arange(len(right)) < leaked).astype(int),
            "predicted": np.where(right, labels, np.where(labels == "a", "b", "a")),
            "p:a": 0.5,
            "p:b": 0.5,
        }
    )


def experiment(
    name: str, right: dict[str, Any], chosen: str = "", first: int = 0, leaked: int = 0
) -> Experiment:
    """Return an experiment from an (S, N) array of correct predictions per backbone."""
    tables = {
        backbone: [table(row, first, leaked) for row in np.atleast_2d(own)]
        for backbone, own in right.items()
    }
    return of_tables(name, tables, chosen or next(iter(right)))


def of_tables(name: str, tables: dict[str, list[pd.DataFrame]], chosen: str) -> Experiment:
    answers = align(tables, {each: [Path(each)] * len(own) for each, own in tables.items()})
    content = pd.Series(answers.images.index, index=answers.images.index)
    return Experiment(name, chosen, answers, content)


def first_wrong(count: int, of: int = 400) -> Any:
    return np.arange(of) >= count


def test_a_real_difference_is_reported_with_its_size_and_sign() -> None:
    (found,) = compare_experiments(
        experiment("main", {"net": first_wrong(40)}),
        [experiment("short", {"net": first_wrong(120)})],
        **RULE,
    )
    difference = found.chosen.comparison.difference
    assert difference.value == pytest.approx(-0.2)
    assert -0.3 < difference.low < -0.2 < difference.high < -0.1
    assert (found.images, found.groups) == (400, 200)
    output = verdict(found)
    assert output.startswith("short is worse than main by 20.0 points (1")
    assert output.endswith("on 400 shared clean test images.")
    assert "One seed does not show" in " ".join(remarks(found, 0.95))


def test_different_chosen_backbones_are_compared_in_addition_to_the_shared_ones() -> None:
    one = experiment("main", {"large": first_wrong(40), "old": first_wrong(40)})
    two = experiment("wide", {"small": first_wrong(44), "large": first_wrong(38)})
    (found,) = compare_experiments(one, [two], **RULE)
    assert (found.chosen.reference, found.chosen.other) == ("large", "small")
    assert [pair.other for pair in found.backbones] == ["large"]
    assert (found.reference_only, found.other_only) == (["old"], ["small"])
    assert verdict(found).startswith("wide (small) and main (large) do not differ significantly")
    assert "large -> small" in text(found, [], 0.95)


def test_p_values_are_corrected_for_all_experiments_together() -> None:
    rng = np.random.default_rng(0)
    reference = experiment("main", {"net": rng.uniform(size=300) < 0.8})
    others = [experiment(f"e{n}", {"net": rng.uniform(size=300) < 0.75}) for n in range(6)]
    alone = compare_experiments(reference, others[:1], **RULE)[0].chosen.comparison
    family = compare_experiments(reference, others, **RULE)[0].chosen.comparison
    assert family.p_value == alone.p_value
    assert family.p_adjusted > alone.p_adjusted
    assert family.difference.low < alone.difference.low


def test_only_images_tested_by_both_experiments_are_compared() -> None:
    one = experiment("main", {"net": np.ones(300, bool)})
    two = experiment("other", {"net": np.arange(300) < 200}, first=100, leaked=20)
    (found,) = compare_experiments(one, [two], **RULE)
    # 100 to 299 are in both, of which 100 to 119 are leaked in the second.
    assert (found.images, found.reference_images, found.other_images) == (180, 300, 280)
    assert found.chosen.comparison.difference.value == 0
    assert found.tested_apart == 200
    output = " ".join(remarks(found, 0.95))
    assert (
        "of 300 clean test images in main and 280 in other, only the 180 that are in both" in output
    )
    assert (
        "200 images were tested in only one of the two: the other may have been trained" in output
    )


def test_images_with_another_class_or_content_are_excluded() -> None:
    one = experiment("main", {"net": first_wrong(10, 60)})
    tables = {"net": [table(first_wrong(10, 60)).replace({"class": {"a": "b"}})]}
    two = of_tables("moved", tables, "net")
    two.content.iloc[:6] = "other"
    (found,) = compare_experiments(one, [two], **RULE)
    assert (found.relabelled, found.replaced, found.images) == (30, 6, 27)
    nothing = replace(two, content=two.content.map(lambda _: "other"))
    with pytest.raises(CarbenchError, match="no clean test image that both have"):
        compare_experiments(one, [nothing], **RULE)


def test_each_comparison_of_a_family_uses_its_own_shared_images() -> None:
    one = experiment("main", {"net": first_wrong(40)})
    same = experiment("same", {"net": first_wrong(60)})
    half = experiment("half", {"net": first_wrong(50, 200)}, first=20)
    found = compare_experiments(one, [same, half], **RULE)
    assert [each.images for each in found] == [400, 200]
    assert found[1].chosen.reference_accuracy.value == pytest.approx(0.9)
    assert found[1].chosen.comparison.difference.value == pytest.approx(0.75 - 0.9)


def test_each_image_has_the_same_weight_however_many_folds_tested_it() -> None:
    """Three training runs on one fold have the same weight as one."""
    easy, hard = table(np.ones(40, bool)), table(np.zeros(40, bool), first=40)
    two_folds = of_tables("two", {"net": [easy, hard]}, "net")
    more = of_tables("more", {"net": [easy, easy, easy, hard]}, "net")
    (found,) = compare_experiments(two_folds, [more], **RULE)
    assert found.chosen.comparison.difference.value == pytest.approx(0)
    assert found.chosen.other_accuracy.value == pytest.approx(0.5)


def test_duplicates_in_either_audit_are_one_group() -> None:
    images = pd.Index(["a", "b", "c", "d"])
    one = pd.Series([0, 0, 1, 2], index=images)
    two = pd.Series([5, 4, 4, 3], index=images)
    assert merge_groups([one, two], images).tolist() == [0, 0, 0, 1]
    # x is not compared, but makes a and d duplicates.
    linked = pd.concat([one, pd.Series([2], index=["x"])])
    chain = pd.Series([9, 9], index=["x", "a"])
    assert merge_groups([linked, chain], images).tolist() == [0, 0, 1, 0]


answers = st.integers(0, 2**31).map(
    lambda seed: np.random.default_rng(seed).uniform(size=(seed % 3 + 1, 60)) < 0.7
)


@settings(max_examples=30, deadline=None)
@given(answers)
def test_an_experiment_does_not_differ_from_itself(right: Any) -> None:
    one = experiment("one", {"net": right, "other": right[:, ::-1]})
    (found,) = compare_experiments(one, [replace(one, name="two")], **RULE)
    for pair in [found.chosen, *found.backbones]:
        assert pair.comparison.difference.value == 0
        assert pair.comparison.difference.low < 0 < pair.comparison.difference.high
        assert not pair.comparison.significant
        assert pair.identical
    assert "do not differ significantly" in verdict(found)
    assert "same predictions" in text(found, [], 0.95)


@settings(max_examples=30, deadline=None)
@given(answers, answers)
def test_swapping_two_experiments_only_flips_the_sign(first: Any, second: Any) -> None:
    one, two = experiment("one", {"net": first}), experiment("two", {"net": second})
    forth = compare_experiments(one, [two], **RULE)[0].chosen
    back = compare_experiments(two, [one], **RULE)[0].chosen
    a, b = forth.comparison.difference, back.comparison.difference
    assert (a.value, a.low, a.high) == pytest.approx((-b.value, -b.high, -b.low))
    assert forth.comparison.p_adjusted == back.comparison.p_adjusted
    assert forth.comparison.significant == back.comparison.significant
    assert forth.other_accuracy == back.reference_accuracy


@settings(max_examples=15, deadline=None)
@given(answers, st.randoms(use_true_random=False))
def test_the_order_of_rows_does_not_matter(right: Any, random: Any) -> None:
    other = experiment("two", {"net": right[:, ::-1]})
    tables = [table(row) for row in right]
    shuffled = [own.sample(frac=1, random_state=random.randrange(2**31)) for own in tables]
    found = [
        compare_experiments(of_tables("one", {"net": own}, "net"), [other], **RULE)[0].chosen
        for own in (tables, shuffled)
    ]
    assert found[0] == found[1]


def test_changed_parameters_are_listed_by_key() -> None:
    old = {"train": {"epochs": 2, "lr": 0.1}, "seeds": [0], "backbones": {"a": {"train": {}}}}
    new = {"train": {"epochs": 1, "lr": 0.1}, "seeds": [0, 1], "backbones": {}}
    assert changed_params(old, new) == [
        ("train.epochs", 2, 1),
        ("seeds", [0], [0, 1]),
        ("backbones.a.train", {}, "(not set)"),
        ("backbones", "(not set)", {}),
    ]
    assert changed_params({"on": True}, {"on": 1}) == [("on", True, 1)]
    assert changed_params(old, old) == []


def write_study(root: Path, wrong: int, epochs: int) -> None:
    """Write the files of a study with one backbone that `carbench compare` reads."""
    section = "aggregate: {confidence: 0.95}\nchoose: {margin: 0.01}\n"
    head = f"backbones: {{net: {{}}}}\nseeds: [0]\ntrain: {{epochs: {epochs}}}\n"
    (root / "params.yaml").write_text(head + section)
    own = table(first_wrong(wrong))
    for path, content in (
        ("evaluate/net/0/predictions.csv", own.to_csv(index=False)),
        ("choose/choice.csv", "backbone,chosen\nnet,1\n"),
        ("data/manifest.csv", own[["image"]].assign(sha256="0").to_csv(index=False)),
        ("metrics.json", json.dumps({"best": {"backbone": "net"}})),
    ):
        (root / "results" / path).parent.mkdir(parents=True, exist_ok=True)
        (root / "results" / path).write_text(content)


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A small git and DVC repository with branches `main` and `worse`."""
    project = Project(tmp_path / "study")
    project.root.mkdir()
    project.run("git", "init", "--quiet", "--initial-branch=main")
    project.run("git", "config", "user.email", "tests@example.org")
    project.run("git", "config", "user.name", "tests")
    project.run("dvc", "init", "--quiet")
    (project.root / ".dvc/config.local").write_text("[core]\n    site_cache_dir = .dvc/tmp/site\n")
    for branch, wrong, epochs in (("main", 40, 2), ("worse", 120, 1)):
        if branch != "main":
            project.run("git", "checkout", "--quiet", "-b", branch)
        write_study(project.root, wrong, epochs)
        project.run("dvc", "add", "--quiet", "results/evaluate/net/0/predictions.csv")
        project.run("git", "add", "--all")
        project.run("git", "commit", "--quiet", f"--message={branch}")
    project.run("git", "checkout", "--quiet", "main")
    project.run("dvc", "checkout", "--quiet")
    monkeypatch.chdir(project.root)
    return project


def compare_command(*arguments: str) -> int:
    parser = argparse.ArgumentParser()
    compare.add_arguments(parser)
    return compare.run(parser.parse_args(arguments))


def test_revisions_are_read_from_git_and_dvc(
    repository: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    assert compare_command("main", "worse", "--json", "numbers.json") == 0
    output = capsys.readouterr().out
    assert output.startswith("worse is worse than main by 20.0 points")
    assert "train.epochs: 2 -> 1" in output
    numbers = json.loads((repository.root / "numbers.json").read_text())
    (comparison,) = numbers["comparisons"]
    assert comparison["chosen"]["difference"]["value"] == pytest.approx(-20)
    assert comparison["params"] == {"train.epochs": {"old": 2, "new": 1}}
    assert comparison["metrics"]["reference"] == {"best": {"backbone": "net"}}

    assert compare_command("worse") == 0  # with the workspace, which is as main
    assert capsys.readouterr().out.startswith("worse is worse than workspace by 20.0 points")
    assert compare_command("main", "worse", "workspace", "--json", "-") == 0
    names = [each["experiment"] for each in json.loads(capsys.readouterr().out)["comparisons"]]
    assert names == ["worse", "workspace"]


def test_unreadable_results_are_reported_with_revision_and_fix(
    repository: Project, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def refused(*arguments: str) -> str:
        with pytest.raises(CarbenchError) as error:
            compare_command(*arguments)
        return str(error.value)

    predictions = "results/evaluate/net/0/predictions.csv"
    assert "absent: found no experiment, branch, tag or commit" in refused("main", "absent")
    assert "found main twice" in refused("main", "main")
    assert "found a path that cannot be" in refused("main", "worse", "--json", "no/such/file")

    remote = tmp_path / "remote"
    repository.run("dvc", "remote", "add", "--quiet", "--default", "store", str(remote))
    (repository.root / ".dvc/cache").rename(remote)  # what `dvc push` makes, and a fresh clone
    assert compare_command("main", "worse") == 0  # only on the remote, named after the commits
    assert capsys.readouterr().out.startswith("worse is worse")
    shutil.rmtree(remote)
    lost = refused("main", "worse")
    assert f"main:{predictions}: found an entry of DVC, but the content is neither" in lost
    assert f"Fix: `dvc fetch --all-commits {predictions}`" in lost

    (repository.root / "results/choose/choice.csv").write_text("backbone,chosen\nnet,0\n")
    assert "found nothing as the chosen backbone" in refused("workspace", "worse")
    (repository.root / predictions).unlink()
    write_study(repository.root, 40, 2)
    (repository.root / predictions).unlink()
    assert f"{predictions}: found no readable file in the workspace" in refused(
        "workspace", "worse"
    )
    repository.run("git", "rm", "-r", "--quiet", "--cached", "results/choose")
    repository.run("git", "commit", "--quiet", "--message=no choice")
    assert "HEAD:results/choose/choice.csv: found no such file in HEAD" in refused("HEAD", "worse")
    (repository.root / "params.yaml").write_text("[")
    repository.run("git", "commit", "--quiet", "--all", "--message=no yaml")
    repository.run("git", "checkout", "--quiet", "HEAD~1", "--", "params.yaml")
    assert "HEAD:params.yaml: found unreadable YAML" in refused("HEAD", "worse")


def test_outside_of_a_repository_an_error_is_raised(tmp_path: Path) -> None:
    with pytest.raises(CarbenchError, match="no git and DVC repository"):
        open_revision("main", tmp_path)
    Project(tmp_path).run("dvc", "init", "--quiet", "--no-scm")
    with pytest.raises(CarbenchError, match="no git and DVC repository"):
        open_revision("main", tmp_path)
