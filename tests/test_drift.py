"""Drift detection: false-alarm rate, power, report and command."""

from __future__ import annotations

import argparse
import io
import json
import re
import time
import zipfile
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from scipy.stats import binomtest, chi2_contingency, energy_distance, hypergeom

from carbench.cli.commands import drift as command
from carbench.core.errors import CarbenchError
from carbench.core.provenance import file_hash
from carbench.data.images.statistics import IMAGE_STATISTICS, image_statistics
from carbench.deploy.bundle.exported_model import MODEL_JSON, REFERENCE
from carbench.deploy.bundle.observations import Observations, read_observations, write_observations
from carbench.deploy.drift import two_sample_tests
from carbench.deploy.drift.false_alarms import estimate_false_alarms
from carbench.deploy.drift.report import (
    details,
    drift_json,
    drift_verdict,
    headline,
    render_report,
    typical_values,
)
from carbench.deploy.drift.two_sample_tests import (
    MIN_IMAGES,
    DriftResult,
    class_distribution_test,
    detect_drift,
    energy_test,
    holm_correction,
    ks_test,
    sequential_p_value,
)
from carbench.deploy.serve.prediction_log import PredictionLog, Record, new_id

ODD = "<script>alert('x')</script>"
CLASSES = ["Audi", ODD, "Škoda & Söhne"]
MIX = (0.5, 0.3, 0.2)


def images(rng: np.random.Generator, count: int) -> NDArray[np.uint8]:
    """Return blurred noise (count, 24, 24, 3) of varying brightness, contrast and focus."""
    noise = rng.normal(size=(count, 24, 24, 3))
    focus = rng.uniform(0.6, 1.0, count)
    soft = np.stack(
        [gaussian_filter(each, (by, by, 0)) for each, by in zip(noise, focus, strict=True)]
    )
    soft /= soft.std(axis=(1, 2, 3), keepdims=True)
    level, spread = rng.uniform(90, 150, (count, 1, 1, 1)), rng.uniform(20, 40, (count, 1, 1, 1))
    return (level + spread * soft).clip(0, 255).astype(np.uint8)


def observe(
    rng: np.random.Generator,
    count: int,
    pixels: NDArray[np.uint8] | None = None,
    mix: tuple[float, ...] = MIX,
    sure: float = 8.0,
    shift: float = 0.0,
) -> Observations:
    """Return simulated observations; the arguments change one property each."""
    return Observations(
        image_statistics(images(rng, count) if pixels is None else pixels),
        rng.choice(len(mix), count, p=mix),
        rng.beta(sure, 2, count),
        (rng.normal(size=(count, 4)) + np.array([shift, 0, 0, 0])).astype(np.float32),
    )


def continuous(rng: np.random.Generator, count: int) -> Observations:
    """Return random observations without images, which is fast."""
    return Observations(
        {name: rng.normal(size=count) for name in IMAGE_STATISTICS},
        rng.choice(3, count, p=(0.9, 0.08, 0.02)),
        rng.beta(8, 2, count),
        rng.normal(size=(count, 2)).astype(np.float32),
    )


def discrete(rng: np.random.Generator, count: int) -> Observations:
    """Return random observations with many ties."""
    seen = continuous(rng, count)
    return Observations(
        {name: column.round() for name, column in seen.statistics.items()},
        seen.predicted,
        seen.confidence.round(1),
        seen.embedding.round(),
    )


@pytest.mark.parametrize("draw", [continuous, discrete])
def test_the_false_alarm_rate_is_at_most_alpha(
    draw: Callable[[np.random.Generator, int], Observations],
) -> None:
    rng, windows, alpha = np.random.default_rng(0), 150, 0.2
    alarms = sum(
        detect_drift(draw(rng, 35), draw(rng, 30), CLASSES, alpha, number).different
        for number in range(windows)
    )
    assert binomtest(alarms, windows, alpha, alternative="greater").pvalue > 0.005
    assert alarms  # otherwise the test above could not fail


def test_sequential_p_values_are_valid() -> None:
    """P(p <= u) is at most u, and close to it, also for p-values at which the test stops."""
    rng, runs = np.random.default_rng(1), 3000
    found = np.array(
        [
            sequential_p_value(rng.uniform(), (rng.uniform(size=100) for _ in range(7)))
            for _ in range(runs)
        ]
    )
    for u in (0.01, 0.05, 0.2, 0.5):
        below = int((found <= u).sum())
        assert binomtest(below, runs, u, alternative="greater").pvalue > 0.001
        assert below > 0.7 * u * runs
    assert (
        sequential_p_value(2.0, [np.ones(100)] * 7) == 1 / 701
    )  # more extreme than all permutations


def darker(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return (0.7 * pixels).astype(np.uint8)


def blurrier(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return gaussian_filter(pixels, (0, 0.7, 0.7, 0))


def changed(drift: DriftResult) -> set[str]:
    return {test.name for test in drift.tests if test.different}


def changed_by(drift: DriftResult) -> float:
    return max(test.effect for test in drift.tests if test.alarm)


def test_each_kind_of_change_is_detected_by_its_test() -> None:
    rng = np.random.default_rng(2)
    reference = observe(rng, 300)

    def found(**change: object) -> set[str]:
        return changed(detect_drift(reference, observe(rng, 100, **change), CLASSES, 0.01, 0))

    assert found() == set()
    assert found(pixels=darker(images(rng, 100))) == {"brightness", "contrast", "saturation"}
    assert "sharpness" in found(pixels=blurrier(images(rng, 100)))
    assert "brightness" not in found(pixels=blurrier(images(rng, 100)))
    assert found(mix=(0.2, 0.3, 0.5)) == {"predicted class"}
    assert found(sure=4.0) == {"confidence"}
    assert found(shift=1.0) == {"embedding"}


def test_differences_without_model_response_are_not_drift() -> None:
    """Neither a change of the input only nor a small effect raises an alarm."""
    rng = np.random.default_rng(20)
    reference = observe(rng, 300)
    dark = detect_drift(
        reference, observe(rng, 100, pixels=darker(images(rng, 100))), CLASSES, 0.01, 0
    )
    assert dark.different and not dark.alarm
    assert drift_verdict(dark) == "different"
    assert headline(dark).endswith("but the model responds to them much as before.")
    assert "The accuracy may be unchanged" in render_report(dark, "v1")
    large, shifted = observe(rng, 200), observe(rng, 200, shift=0.8)
    (effect,) = (
        test.effect
        for test in detect_drift(large, shifted, CLASSES, 0.01, 0).tests
        if test.name == "embedding"
    )
    for least, expected in ((effect - 0.01, "drift"), (effect + 0.01, "different")):
        drift = detect_drift(large, shifted, CLASSES, 0.01, 0, least)
        assert drift_verdict(drift) == expected == drift_json(drift, "v1")["verdict"]
        assert f"{effect:.2f}" in details(drift)


@pytest.mark.parametrize("count", [60, 600])
def test_effect_sizes_are_independent_of_the_number_of_images(count: int) -> None:
    """0 for equal samples, 1 for disjoint ones, and as defined in between."""
    rng = np.random.default_rng(21)
    same = continuous(rng, count)
    apart = Observations(
        {name: column + 99 for name, column in same.statistics.items()},
        np.full(count, 1),
        same.confidence + 2,
        same.embedding + np.float32(1e6),
    )
    same = replace(same, predicted=np.zeros(count, np.int64))
    effects = [test.effect for test in detect_drift(same, same, CLASSES, 0.01, 0).tests]
    assert effects == pytest.approx([0] * 7, abs=1e-6)
    effects = [test.effect for test in detect_drift(same, apart, CLASSES, 0.01, 0).tests]
    assert effects == pytest.approx([1.0] * 7, abs=1e-3)
    half = replace(same, predicted=np.arange(count) % 2)
    classes = [test.effect for test in detect_drift(same, half, CLASSES, 0.01, 0).tests][5]
    assert classes == pytest.approx(0.5)


def test_false_alarm_rates_are_estimated_for_a_reference() -> None:
    """The mean is at most alpha, single references vary, and small references are rejected."""
    rng = np.random.default_rng(22)
    known = continuous(rng, 160)
    found = estimate_false_alarms(known, CLASSES, 0.2, 0, 500, halves=12, windows=12)
    assert found.images == 40 and len(found.rates) == 12
    assert found.mean <= 0.2 + 3 * (0.2 * 0.8 / 144) ** 0.5
    assert found.quantile(0.1) < found.quantile(0.9)
    assert estimate_false_alarms(known, CLASSES, 0.2, 0, 500, halves=12, windows=12) == found
    with pytest.raises(CarbenchError, match="at least 120"):
        estimate_false_alarms(continuous(rng, 100), CLASSES, 0.2, 0, 500)


def test_results_contain_medians_and_class_shares() -> None:
    rng = np.random.default_rng(3)
    reference, window = observe(rng, 300), observe(rng, 100, mix=(0.2, 0.8, 0.0), shift=3.0)
    tests = {test.name: test for test in detect_drift(reference, window, CLASSES, 0.01, 0).tests}
    bright, classes = tests["brightness"], tests["predicted class"]
    assert bright.before["median"] == np.median(reference.statistics["brightness"])
    assert list(classes.after) == CLASSES
    assert classes.after[CLASSES[2]] == 0 and sum(classes.after.values()) == pytest.approx(1)
    apart = tests["embedding"]
    assert apart.after["median_distance"] > apart.before["median_distance"]
    after = f"{100 * classes.after[ODD]:.1f}\N{NO-BREAK SPACE}% {ODD}"  # changed most
    assert typical_values(classes)[1] == after


def test_too_few_images_give_no_result() -> None:
    rng = np.random.default_rng(4)
    many, few = observe(rng, 100), observe(rng, MIN_IMAGES - 1, shift=9.0)
    for drift in (
        detect_drift(many, few, CLASSES, 0.01, 0),
        detect_drift(few, many, CLASSES, 0.01, 0),
    ):
        assert not drift.has_enough_images and not drift.alarm and drift.tests == []
        assert drift_json(drift, "v")["alarm"] is None
        assert "too few images" in headline(drift)
        assert headline(drift) in render_report(drift, "v")
    none = Observations(
        dict.fromkeys(IMAGE_STATISTICS, np.empty(0)),
        np.empty(0, np.int64),
        np.empty(0),
        np.empty((0, 0), np.float32),
    )
    assert "0 new images" in render_report(detect_drift(many, none, CLASSES, 0.01, 0), "v")
    enough = observe(rng, MIN_IMAGES, shift=9.0)
    assert detect_drift(many, enough, CLASSES, 0.01, 0).alarm


def test_results_are_determined_by_the_seed() -> None:
    rng = np.random.default_rng(5)
    reference, window = observe(rng, 200), observe(rng, 100)
    first, again, other = (
        detect_drift(reference, window, CLASSES, 0.01, seed) for seed in (0, 0, 1)
    )
    assert first.tests == again.tests
    assert first.tests != other.tests


def test_an_alarm_is_possible_with_a_small_alpha() -> None:
    rng = np.random.default_rng(6)
    away = replace(continuous(rng, 40), embedding=np.full((40, 2), 9, np.float32))
    drift = detect_drift(continuous(rng, 40), away, CLASSES, 0.001, 0)
    assert changed(drift) == {"embedding"}


def test_large_windows_are_supported() -> None:
    rng = np.random.default_rng(7)
    assert not detect_drift(continuous(rng, 200), continuous(rng, 20_000), CLASSES, 0.01, 0).alarm


def share_as_far(distance: Callable[[list[int]], float], count: int, size: int) -> float:
    """Return the exact p-value of a permutation test, from all ways to choose ``size`` items."""
    every = [distance(list(chosen)) for chosen in combinations(range(count), size)]
    return float(np.mean(np.array(every) >= every[-1] - 1e-12))


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 2**31))
def test_the_ks_test_agrees_with_its_definition(seed: int) -> None:
    rng = np.random.default_rng(seed)
    for values in (rng.normal(size=9), rng.integers(0, 4, 9).astype(float)):

        def distance(chosen: list[int], values: NDArray[np.float64] = values) -> float:
            mine = np.isin(np.arange(9), chosen)
            return max(
                abs((values[mine] <= at).mean() - (values[~mine] <= at).mean()) for at in values
            )

        statistic, p = ks_test(values[:5], values[5:])
        exact = share_as_far(distance, 9, 4)
        assert statistic == pytest.approx(distance([5, 6, 7, 8]))
        if len(set(values)) == 9:
            assert p == pytest.approx(exact)
        assert p >= exact - 1e-12  # conservative with ties


def test_the_energy_test_agrees_with_its_definition(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        two_sample_tests, "MAX_EXCEEDANCES", 10**9
    )  # all permutations, for the exact p-value
    rng = np.random.default_rng(8)
    before = rng.normal(size=(6, 3)).astype(np.float32)
    after = (rng.normal(size=(4, 3)) + 0.7).astype(np.float32)
    points = np.concatenate([before, after]).astype(np.float64)
    distances = np.linalg.norm(points[:, None] - points, axis=2)

    def energy(chosen: list[int]) -> float:
        rest = [place for place in range(len(points)) if place not in chosen]
        between, within, without = (
            distances[np.ix_(first, second)].mean()
            for first, second in ((chosen, rest), (chosen, chosen), (rest, rest))
        )
        return float(2 * between - within - without)

    statistic, p, effect = energy_test(before, after, 4000, rng)
    assert statistic == pytest.approx(energy([6, 7, 8, 9]))
    assert p == pytest.approx(share_as_far(energy, 10, 4), abs=0.03)
    between = distances[:6, 6:].mean()
    assert effect == pytest.approx(np.sqrt(statistic / (2 * between)))
    line, *_ = energy_test(before[:, :1], after[:, :1], 1, rng)
    assert line == pytest.approx(energy_distance(before[:, 0], after[:, 0]) ** 2)
    assert energy_test(np.ones((40, 2), np.float32), np.ones((30, 2), np.float32), 99, rng)[1] == 1


def test_the_class_test_agrees_with_its_definition(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(two_sample_tests, "MAX_EXCEEDANCES", 10**9)
    rng = np.random.default_rng(9)
    before, after = np.array([60, 0, 30, 10]), np.array([18, 0, 14, 8])
    statistic, _ = class_distribution_test(before, after, 10, rng)
    table = np.array([before, after])[:, [0, 2, 3]]
    assert statistic == pytest.approx(chi2_contingency(table, correction=False).statistic)

    before, after = np.array([30, 10]), np.array([12, 9])
    _, p = class_distribution_test(before, after, 20_000, rng)
    law = hypergeom(61, 42, 21)
    away = abs(np.arange(22) - law.mean()) >= abs(12 - law.mean()) - 1e-9
    assert p == pytest.approx(law.pmf(np.arange(22))[away].sum(), abs=0.01)
    assert class_distribution_test(np.array([50, 0]), np.array([40, 0]), 99, rng)[1] == 1


def test_holm_correction_agrees_with_a_manual_calculation() -> None:
    assert holm_correction([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm_correction([0.6, 0.5]) == [1.0, 1.0]


def test_image_statistics_agree_with_their_definitions() -> None:
    pixels = images(np.random.default_rng(10), 5)
    found = image_statistics(pixels)
    assert tuple(found) == IMAGE_STATISTICS
    luma = pixels @ np.array([0.299, 0.587, 0.114]) / 255
    assert found["brightness"] == pytest.approx(luma.mean(axis=(1, 2)), abs=1e-6)
    assert found["contrast"] == pytest.approx(luma.std(axis=(1, 2)), abs=1e-6)
    assert found["saturation"] == pytest.approx(np.ptp(pixels, axis=3).mean(axis=(1, 2)) / 255)
    for number in range(5):
        alone = image_statistics(pixels[number : number + 1])
        assert all(alone[name][0] == found[name][number] for name in IMAGE_STATISTICS)
    grey = image_statistics(np.full((1, 24, 24, 3), 100, np.uint8))
    assert [float(each[0]) for each in grey.values()] == pytest.approx([100 / 255, 0, 0, 0])


def test_sharpness_depends_on_focus_but_not_on_brightness() -> None:
    wave = np.cos(0.5 * np.arange(224))[None, :] * np.ones((224, 1))
    pixels = np.repeat((128 + 100 * wave).round().astype(np.uint8)[None, ..., None], 3, axis=3)
    (sharpness,) = image_statistics(pixels)["sharpness"]
    assert sharpness == pytest.approx(0.5, rel=0.02)  # the frequency of a wave, in radians
    noise = images(np.random.default_rng(11), 20)
    sharp, dark, blurred = (
        image_statistics(each)["sharpness"] for each in (noise, darker(noise), blurrier(noise))
    )
    assert dark == pytest.approx(sharp, rel=0.05)
    assert (blurred < 0.9 * sharp).all()


def test_observation_files_are_reproducible(tmp_path: Path) -> None:
    seen = observe(np.random.default_rng(12), 50)
    for name in ("first.npz", "second"):
        write_observations(tmp_path / name, seen)
    content = (tmp_path / "first.npz").read_bytes()
    assert (tmp_path / "second").read_bytes() == content
    with zipfile.ZipFile(io.BytesIO(content)) as file:
        assert {member.date_time for member in file.infolist()} == {(1980, 1, 1, 0, 0, 0)}
    read = read_observations(tmp_path / "second")
    assert len(read) == 50 and list(read.statistics) == list(IMAGE_STATISTICS)
    assert all((read.statistics[name] == seen.statistics[name]).all() for name in IMAGE_STATISTICS)
    for name in ("predicted", "confidence", "embedding"):
        own, expected = getattr(read, name), getattr(seen, name)
        assert own.dtype == expected.dtype and (own == expected).all()


def test_damaged_observation_files_are_rejected(tmp_path: Path) -> None:
    path = tmp_path / "reference.npz"
    with pytest.raises(CarbenchError, match="found nothing"):
        read_observations(path)
    rng = np.random.default_rng(13)
    seen = observe(rng, 30)
    write_observations(path, seen)
    whole = path.read_bytes()
    for start in range(0, len(whole), 97):
        damaged = bytearray(whole)
        damaged[start] ^= 0xFF
        for content in (bytes(damaged), whole[:start]):
            path.write_bytes(content)
            # Irrelevant bytes, such as dates, may change; other exceptions are not allowed.
            try:
                read = read_observations(path)
            except CarbenchError:
                continue
            assert (read.embedding == seen.embedding).all()
    encrypted = bytearray(whole)
    encrypted[whole.index(b"PK\x01\x02") + 8] |= 1  # the flag of the first member
    path.write_bytes(encrypted)
    with pytest.raises(CarbenchError, match="encrypted"):
        read_observations(path)
    confidence = seen.confidence.copy()
    confidence[3] = np.nan
    for wrong in (replace(seen, confidence=confidence), replace(seen, predicted=np.arange(3))):
        write_observations(path, wrong)
        with pytest.raises(CarbenchError, match=r"reference\.npz"):
            read_observations(path)
    with path.open("wb") as file:
        np.save(file, np.zeros(3))
    with pytest.raises(CarbenchError, match="no readable observations"):
        read_observations(path)


class Tags(HTMLParser):
    """Collects all tags and attributes of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs


def test_the_report_is_escaped_and_self_contained() -> None:
    rng = np.random.default_rng(14)
    window = observe(rng, 100, mix=(0.0, 0.8, 0.2))
    drift = detect_drift(observe(rng, 300), window, CLASSES, 0.01, 0)
    html = render_report(drift, "<b>v1</b>")
    page = Tags(html)
    assert not {"script", "link", "img", "iframe", "b"} & set(page.tags)
    assert not [name for name, _ in page.attributes if name in ("src", "href", "style")]
    assert not re.findall(r"https?:|url\(|@import", html)
    assert "&lt;script&gt;" in html and "&lt;b&gt;v1&lt;/b&gt;" in html
    assert headline(drift) in html and details(drift) in html
    assert details(drift).startswith("Significant difference in predicted class, with an effect")
    assert f"{changed_by(drift):.2f}" in details(drift)
    assert page.tags.count("figure") == len(IMAGE_STATISTICS) + 2
    calm = detect_drift(window, window, CLASSES, 0.01, 0)
    assert "The images have not changed noticeably" in render_report(calm, "v1")


def test_the_report_shows_the_classes_with_the_largest_change() -> None:
    rng = np.random.default_rng(15)
    mix = (1 / 40,) * 40
    names = [f"class {number}" for number in range(40)]
    window = replace(observe(rng, 100, mix=mix), predicted=np.full(100, 39))
    html = render_report(detect_drift(observe(rng, 300, mix=mix), window, names, 0.01, 0), "v1")
    assert html.index('<th scope="row">class 39</th>') < html.index('<th scope="row">class ', 0) + 9
    assert "28 more classes" in html


def test_the_json_result_has_the_same_values() -> None:
    rng = np.random.default_rng(16)
    drift = detect_drift(observe(rng, 300), observe(rng, 100, shift=2.0), CLASSES, 0.01, 0)
    document = drift_json(drift, "v1")
    assert json.loads(json.dumps(document, allow_nan=False)) == document
    assert document["verdict"] == "drift" and document["alarm"] is True
    assert (document["images"], document["reference"], document["alpha"]) == (100, 300, 0.01)
    assert [test["alarm"] for test in document["tests"]] == [test.alarm for test in drift.tests]


def record(seen: Observations, row: int, when: float) -> Record:
    """Return the log record of an image."""
    return Record(
        id=new_id(),
        time=when,
        model="v1",
        sha256=f"{when}-{row}",
        top=[],
        predicted=int(seen.predicted[row]),
        confidence=float(seen.confidence[row]),
        statistics={name: float(column[row]) for name, column in seen.statistics.items()},
        embedding=seen.embedding[row].tobytes(),
        image=None,
    )


def write_reference(folder: Path, reference: Observations) -> None:
    """Write the files of an exported folder that drift detection reads."""
    write_observations(folder / REFERENCE, reference)
    about = {"version": "v1", "classes": CLASSES, "input": {"size": 24, "fit": "squash"}}
    hashes = {REFERENCE: file_hash(folder / REFERENCE)}
    (folder / MODEL_JSON).write_text(json.dumps(about | {"sha256": hashes}))


@pytest.fixture
def ask(tmp_path: Path) -> Callable[..., int]:
    """Run `carbench drift` on 100 unchanged images of 2001 and 100 changed ones of today."""
    rng = np.random.default_rng(17)
    write_reference(tmp_path, continuous(rng, 300))
    log = PredictionLog(tmp_path / "log.sqlite")
    for when, shift in ((1e9, 0), (time.time(), 2)):
        seen = continuous(rng, 100)
        seen = replace(seen, embedding=seen.embedding + np.float32(shift))
        log.append(record(seen, row, when) for row in range(100))
    log.close()
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    usual = ["--model", str(tmp_path), "--log", str(tmp_path / "log.sqlite"), "--alpha", "0.1"]

    def run(*arguments: str) -> int:
        return command.run(parser.parse_args([*usual, *arguments]))

    return run


def test_the_exit_status_states_the_result(
    ask: Callable[..., int],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert ask("--last", "100") == 2
    assert "Significant difference in embedding" in capsys.readouterr().out
    assert ask("--last", "100", "--min-effect", "0.99") == 4
    assert "responds to them much as before" in capsys.readouterr().out
    monkeypatch.setattr(
        "carbench.deploy.drift.false_alarms.detect_drift",
        lambda *_: DriftResult(
            [], 0.1, 0.0, *([continuous(np.random.default_rng(0), 3)] * 2), CLASSES
        ),
    )
    assert ask("--false-alarms", "--last", "50") == 0
    assert "0.0\N{NO-BREAK SPACE}% on average" in capsys.readouterr().out
    assert ask("--last", "20") == 3
    assert "too few images" in capsys.readouterr().out
    assert ask("--html", str(tmp_path / "new/drift.html"), "--json", "-") == 2
    assert json.loads(capsys.readouterr().out)["images"] == 200
    assert "responds to them differently" in (tmp_path / "new/drift.html").read_text()
    monkeypatch.setattr(command, "DEFAULT_WINDOW", 40)
    for arguments, count in (((), 40), (("--since", "24h"), 100), (("--since", "900w"), 100)):
        assert ask(*arguments, "--json", "-") == 2
        assert json.loads(capsys.readouterr().out)["images"] == count
    known = continuous(np.random.default_rng(18), 300)
    known = replace(known, embedding=known.embedding + np.float32(2))
    write_observations(tmp_path / REFERENCE, known)
    with pytest.raises(CarbenchError, match="differs from the exported one"):
        ask("--last", "100")
    write_reference(tmp_path, known)
    assert ask("--last", "100", "--json", str(tmp_path / "drift.json")) == 0
    assert json.loads((tmp_path / "drift.json").read_text())["verdict"] == "no drift"


@pytest.mark.parametrize(
    "arguments",
    [
        ("--alpha", "0"),
        ("--alpha", "one"),
        ("--alpha", "nan"),
        ("--last", "0"),
        ("--last", "many"),
        ("--since", "yesterday"),
        ("--seed", "-1"),
        ("--min-effect", "2"),
        ("--html", "/dev/null/page.html"),
    ],
    ids="=".join,
)
def test_invalid_options_are_rejected(ask: Callable[..., int], arguments: tuple[str, str]) -> None:
    """The exit status is 1: argparse's own status 2 would mean drift."""
    with pytest.raises(CarbenchError, match="Fix: "):
        ask("=".join(arguments))
