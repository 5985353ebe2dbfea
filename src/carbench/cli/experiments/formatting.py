"""Output of a comparison of experiments, as text or JSON."""

from __future__ import annotations

import json
from typing import Any

from carbench.statistics.confidence_intervals import Interval
from carbench.statistics.experiment_comparison import BackbonePair, ExperimentComparison

# Shown for a key that one of the two lacks.
ABSENT = "(not set)"
Change = tuple[str, Any, Any]


def changed_params(old: dict[str, Any], new: dict[str, Any]) -> list[Change]:
    """Return (dotted key, old value, new value) of every difference; a missing key is ABSENT."""
    before, after = _flat(old), _flat(new)
    return [
        (key, before.get(key, ABSENT), after.get(key, ABSENT))
        for key in dict.fromkeys([*before, *after])
        if key not in before or key not in after or _differ(before[key], after[key])
    ]


def verdict(comparison: ExperimentComparison) -> str:
    """Return one sentence that says whether the chosen backbones differ significantly."""
    pair, found = comparison.chosen, comparison.chosen.comparison
    one, two = comparison.reference, comparison.other
    if pair.reference != pair.other:
        one, two = f"{one} ({pair.reference})", f"{two} ({pair.other})"
    images = _count("shared clean test image", comparison.images)
    difference = found.difference
    if pair.identical:
        return (
            f"{two} and {one} do not differ significantly: they made the same predictions on "
            f"{images}."
        )
    if found.significant:
        size = sorted((abs(difference.low), abs(difference.high)))
        return (
            f"{two} is {'better' if difference.value > 0 else 'worse'} than {one} by "
            f"{_points(abs(difference.value))} points ({_points(size[0])} to {_points(size[1])}) "
            f"on {images}."
        )
    return (
        f"{two} and {one} do not differ significantly on {images}: the difference is between "
        f"{_points(difference.low)} and {_points(difference.high)} points. A true difference of "
        f"{_points(found.detectable)} points would be found in 80 of 100 such comparisons, one of "
        f"{_points(found.detectable_half)} points in 50 of 100."
    )


def remarks(comparison: ExperimentComparison, confidence: float) -> list[str]:
    """Return what a reader needs to know to interpret the numbers, one sentence each."""
    one, two = comparison.reference, comparison.other
    lines = [
        f"Chosen on the validation set: {comparison.chosen.reference} in {one}, "
        f"{comparison.chosen.other} in {two}. The intervals hold jointly with "
        f"{100 * confidence:g} % confidence, and p is corrected for all rows. `better` is the "
        f"probability that {two} is truly better, for that row alone."
    ]
    if comparison.tested_apart:
        lines.append(
            f"The splits differ: of {comparison.reference_images} clean test images in {one} and "
            f"{comparison.other_images} in {two}, only the {comparison.images} that are in both "
            f"are compared. {_tested_apart(comparison.tested_apart)}"
        )
    elif comparison.images < max(comparison.reference_images, comparison.other_images):
        lines.append(
            f"Of {comparison.reference_images} clean test images in {one} and "
            f"{comparison.other_images} in {two}, only the {comparison.images} that are clean and "
            "the same in both are compared."
        )
    if comparison.relabelled:
        count = _count("image", comparison.relabelled)
        lines.append(f"Excluded: {count} with another class in the other experiment.")
    if comparison.replaced:
        count = _count("image", comparison.replaced)
        lines.append(f"Excluded: {count} with the same name but different content.")
    pairs = [comparison.chosen, *comparison.backbones]
    if not all(pair.includes_training_variance for pair in pairs):
        lines.append(
            "One seed does not show how much training runs vary: the result is about these "
            "training runs, not about the parameters. Add seeds to find out."
        )
    for names, has, lacks in (
        (comparison.reference_only, one, two),
        (comparison.other_only, two, one),
    ):
        if names:
            lines.append(f"{', '.join(names)}: in {has}, not in {lacks}.")
    return lines


def table(comparison: ExperimentComparison) -> str:
    """Return one row per backbone, in aligned columns; percent and percentage points."""
    one, two = comparison.reference, comparison.other
    rows: list[tuple[str, ...]] = [
        ("backbone", f"{one} %", f"{two} %", "difference, points", "p", "better", ""),
        *(_row(pair) for pair in rows_of(comparison)),
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    return "\n".join(lines)


def rows_of(comparison: ExperimentComparison) -> list[BackbonePair]:
    """Return the pairs of the table: the chosen ones first, if they are two backbones."""
    first = [] if comparison.chosen in comparison.backbones else [comparison.chosen]
    return [*first, *comparison.backbones]


def text(comparison: ExperimentComparison, changes: list[Change], confidence: float) -> str:
    """Return the whole text: verdict, table, remarks and the parameters that differ."""
    parts = [verdict(comparison), table(comparison), "\n".join(remarks(comparison, confidence))]
    if changes:
        lines = [f"  {key}: {_value(old)} -> {_value(new)}" for key, old, new in changes]
        parts.append(
            f"Parameters, {comparison.reference} -> {comparison.other}:\n" + "\n".join(lines)
        )
    else:
        parts.append("No parameter differs.")
    return "\n\n".join(parts)


def document(
    comparison: ExperimentComparison, changes: list[Change], metrics: tuple[Any, Any]
) -> dict[str, Any]:
    """Return all numbers for JSON; accuracies in percent, differences in percentage points.

    Args:
        comparison: comparison of two experiments.
        changes: differences between their parameters.
        metrics: content of results/metrics.json of both.
    """
    return {
        "reference": comparison.reference,
        "experiment": comparison.other,
        "verdict": verdict(comparison),
        "images": comparison.images,
        "groups": comparison.groups,
        "reference_images": comparison.reference_images,
        "experiment_images": comparison.other_images,
        "tested_apart": comparison.tested_apart,
        "relabelled": comparison.relabelled,
        "replaced": comparison.replaced,
        "chosen": _numbers(comparison.chosen),
        "backbones": {pair.other: _numbers(pair) for pair in comparison.backbones},
        "reference_only": comparison.reference_only,
        "experiment_only": comparison.other_only,
        "params": {
            key: {
                side: value for side, value in (("old", old), ("new", new)) if value is not ABSENT
            }
            for key, old, new in changes
        },
        "metrics": {"reference": metrics[0], "experiment": metrics[1]},
    }


def _row(pair: BackbonePair) -> tuple[str, ...]:
    found = pair.comparison
    if found.significant:
        verdict_text = "better" if found.difference.value > 0 else "worse"
    else:
        verdict_text = "same predictions" if pair.identical else "not significant"
    name = pair.other if pair.reference == pair.other else f"{pair.reference} -> {pair.other}"
    return (
        name,
        _interval(pair.reference_accuracy),
        _interval(pair.other_accuracy),
        _interval(found.difference, sign="+"),
        _p(found.p_adjusted),
        f"{100 * found.better:.0f} %",
        verdict_text,
    )


def _numbers(pair: BackbonePair) -> dict[str, Any]:
    found = pair.comparison
    return {
        "reference_backbone": pair.reference,
        "experiment_backbone": pair.other,
        "reference_accuracy": _percent(pair.reference_accuracy),
        "experiment_accuracy": _percent(pair.other_accuracy),
        "difference": _percent(found.difference),
        "p_value": found.p_value,
        "p_adjusted": found.p_adjusted,
        "significant": found.significant,
        "probability_better": found.better,
        "probability_equivalent": found.equivalent,
        "detectable": round(100 * found.detectable, 6),
        "detectable_half": round(100 * found.detectable_half, 6),
        "includes_training_variance": pair.includes_training_variance,
        "identical": pair.identical,
    }


def _percent(interval: Interval) -> dict[str, float]:
    return {key: round(100 * value, 6) + 0.0 for key, value in vars(interval).items()}


def _interval(interval: Interval, sign: str = "") -> str:
    value, low, high = (
        f"{round(100 * each, 1) + 0.0:{sign}.1f}"
        for each in (interval.value, interval.low, interval.high)
    )
    return f"{value} ({low} to {high})"


def _points(value: float) -> str:
    return f"{round(100 * value, 1) + 0.0:.1f}"  # + 0.0: no minus zero


def _p(value: float) -> str:
    return f"{value:.2f}" if value >= 0.1 else f"{value:.2g}"


def _tested_apart(count: int) -> str:
    was, them = ("was", "it") if count == 1 else ("were", "them")
    return (
        f"{_count('image', count)} {was} tested in only one of the two: the other may have been "
        f"trained on {them}."
    )


def _count(noun: str, count: int) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


def _flat(content: dict[str, Any], before: str = "") -> dict[str, Any]:
    """Return values by dotted key; an empty mapping is a value."""
    found: dict[str, Any] = {}
    for key, value in content.items():
        if isinstance(value, dict) and value:
            found |= _flat(value, f"{before}{key}.")
        else:
            found[f"{before}{key}"] = value
    return found


def _differ(one: Any, two: Any) -> bool:
    return json.dumps(one) != json.dumps(two)  # 1 is not true, and 1.0 not 1


def _value(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
