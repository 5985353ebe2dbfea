"""An independent computation from predictions.csv gives the numbers of the tables.

It uses pandas, scikit-learn, scipy and the formulas of docs/statistics.md, but no code of carbench.
"""

from __future__ import annotations

from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm, t
from sklearn.metrics import accuracy_score, balanced_accuracy_score, f1_score, log_loss

from conftest import Project, run_script
from costs import write_costs

CLASSES = ["a", "b", "c"]


def read(path: Path) -> pd.DataFrame:
    return pd.read_csv(path, keep_default_na=False, dtype={"class": str, "predicted": str})


def calibration_error(sure: Any, right: Any, bins: int) -> float:
    """Return the mean distance between confidence and accuracy, in bins of equal count."""
    order = np.argsort(sure, kind="stable")
    parts = np.array_split(order, min(bins, len(order)))
    return sum(len(part) * abs(sure[part].mean() - right[part].mean()) for part in parts) / len(
        sure
    )


@pytest.mark.slow
def test_point_estimates_agree_with_the_predictions(smoke_run: Project) -> None:
    results = smoke_run.root / "results"
    summary = read(results / "summary.csv").set_index("backbone")
    recalls = read(results / "recall.csv").set_index(["backbone", "class"])
    robust = read(results / "robustness.csv").set_index(["backbone", "corruption"])
    assert len(summary) == 2
    for backbone, row in summary.iterrows():
        every = read(results / f"evaluate/{backbone}/0/predictions.csv")
        clean = every[every["leaked"] == 0]
        truth, said = clean["class"], clean["predicted"]
        probabilities = clean.filter(like="p:").to_numpy(float)
        classes = [name[2:] for name in clean.filter(like="p:")]
        assert row["accuracy"] == pytest.approx(accuracy_score(truth, said), abs=1e-5)
        balanced = balanced_accuracy_score(truth, said)
        assert row["balanced_accuracy"] == pytest.approx(balanced, abs=1e-5)
        f1 = f1_score(truth, said, average="macro")
        assert row["macro_f1"] == pytest.approx(f1, abs=1e-5)
        loss = log_loss(truth, probabilities, labels=classes)
        assert row["nll"] == pytest.approx(loss, abs=1e-4)
        right = (truth == said).to_numpy()
        bins = 10
        error = calibration_error(probabilities.max(axis=1), right, bins)
        assert row["ece"] == pytest.approx(error, abs=2e-3)
        published = (every["class"] == every["predicted"]).mean()
        assert row["published_accuracy"] == pytest.approx(published, abs=1e-5)
        mix = every["class"].value_counts(normalize=True)
        by_class = pd.Series(right, index=clean.index).groupby(truth).mean()
        assert row["leak_gap"] == pytest.approx(published - (mix * by_class).sum(), abs=1e-5)
        for label, share in by_class.items():
            assert recalls.loc[(backbone, label), "recall"] == pytest.approx(share, abs=1e-5)
        corrupted = read(results / f"evaluate/{backbone}/0/robustness.csv")
        for name, own in corrupted.groupby("corruption"):
            left = (own["class"] == own["predicted"]).mean()
            assert robust.loc[(backbone, name), "accuracy"] == pytest.approx(left, abs=1e-5)


def made_up_study(folder: Path, seeds: int) -> dict[str, list[pd.DataFrame]]:
    """Write simulated results of three backbones on 150 images in 110 groups; return the tables."""
    rng = np.random.default_rng(21)
    groups = np.sort(np.concatenate([np.arange(110), rng.integers(0, 110, 40)]))
    labels = rng.choice(CLASSES, 110, p=[0.5, 0.3, 0.2])[groups]
    leaked = (rng.uniform(size=110) < 0.3)[groups]
    hard = rng.normal(size=110)[groups]
    tables: dict[str, list[pd.DataFrame]] = {}
    for name, ability in (("one", 1.6), ("two", 1.3), ("three", 0.4)):
        for seed in range(seeds):
            luck = 0.25 * rng.normal()
            right = ability + luck + hard + rng.normal(size=150) + 0.8 * leaked > 0
            others = np.array([CLASSES[(CLASSES.index(label) + 1) % 3] for label in labels])
            table = pd.DataFrame(
                {
                    "image": [f"{number}.jpg" for number in range(150)],
                    "class": labels,
                    "group": groups,
                    "predicted": np.where(right, labels, others),
                    "confidence": 0.6,
                    "leaked": leaked.astype(int),
                    "width": 100 + np.arange(150),
                    "height": 100,
                }
            )
            likely = [f"p:{label}" for label in CLASSES]
            for label in CLASSES:
                table[f"p:{label}"] = np.where(table["predicted"] == label, 0.6, 0.2)
            place = folder / "evaluate" / name / str(seed)
            place.mkdir(parents=True)
            table.to_csv(place / "predictions.csv", index=False)
            clean = table[table["leaked"] == 0]
            clean.assign(corruption="blur").to_csv(place / "robustness.csv", index=False)
            columns = ["image", "class", "group", "predicted", "confidence"]
            clean[columns][:0].to_csv(place / "mistakes.csv", index=False)
            np.savez(
                place / "explanations.npz",
                images=np.zeros((0, 2, 2, 3), np.uint8),
                maps=np.zeros((0, 2, 2), np.uint8),
            )
            numbers = {"nll": 0.5, "ece": 0.1, "nll_calibrated": 0.4, "ece_calibrated": 0.05}
            pd.Series({"temperature": 1.0, "clean": numbers}).to_json(place / "metrics.json")
            tables.setdefault(name, []).append(table)
            trained = folder / "train" / name / str(seed)
            trained.mkdir(parents=True)
            (trained / "history.csv").write_text("epoch,val_accuracy,chosen\n1,0.5,1\n")
            val = table.assign(image="val/" + table["image"])
            val[["image", "class", "group", "predicted", "confidence", *likely]].to_csv(
                trained / "val.csv", index=False
            )
    return tables


class Reviewer:
    """A second implementation of the formulas of docs/statistics.md, written independently."""

    def __init__(self, right: dict[str, list[pd.Series[bool]]], groups: pd.Series[int]) -> None:
        self.groups = groups
        self.count = groups.nunique()
        self.seeds = len(next(iter(right.values())))
        self.values = {name: np.array([row.mean() for row in rows]) for name, rows in right.items()}
        self.changes = {
            name: np.array(
                [
                    [row[groups != group].mean() - row.mean() for row in rows]
                    for group in groups.unique()
                ]
            )
            for name, rows in right.items()
        }
        self.own_freedom = self.seeds - 1
        self.factor = (self.count - 1) / self.count
        names, d = list(right), self.own_freedom
        self.unit = {}
        found, luck = {}, {}
        for name in names:
            p = (self.values[name].mean() * self.count + 1) / (self.count + 2)
            self.unit[name] = p * (1 - p)
            found[name] = self.values[name].var(ddof=1)
            luck[name] = self.changes[name].var(axis=1, ddof=1).sum() * self.factor
        excess = sum(found[name] - luck[name] for name in names) / sum(self.unit.values())
        self.between, self.doubt, self.luck = {}, {}, luck
        self.freedom = min(2 + d, d * len(names))
        for name in names:
            common = max(excess * self.unit[name] + luck[name], luck[name] / 4)
            drawn = max((2 * common + d * found[name]) / (2 + d), luck[name] / 4)
            self.between[name] = (drawn - luck[name]) / self.seeds
            # What each training's spread has to say in it, and how far this backbone may differ.
            weights = {
                other: (2 / len(names) + d * (other == name)) / (2 + d) / np.sqrt(d)
                for other in names
            }
            rest = 1 / self.freedom - sum(weight**2 for weight in weights.values())
            shared = {("shared", other): weight for other, weight in weights.items()}
            vector = shared | {("own", name): np.sqrt(max(rest, 0))}
            self.doubt[name] = {key: value * drawn / self.seeds for key, value in vector.items()}

    def _error(
        self, change: Any, between: float, doubt: dict[Any, float], added: float
    ) -> tuple[float, float]:
        images = (change**2).sum() * self.factor
        images = (images * self.count**2 + added) / (self.count + 2 * added) ** 2
        variance = max(images + between, 0.05 * images)
        rows = images**2 / (self.count - 1) + sum(value**2 for value in doubt.values())
        return np.sqrt(variance), max(variance**2 / rows, min(self.freedom, self.count - 1))

    def accuracy(self, name: str) -> tuple[float, float, float]:
        value = self.values[name].mean()
        size, freedom = self._error(
            self.changes[name].mean(axis=1),
            self.between[name],
            self.doubt[name],
            0.2 * (1 - 1 / self.seeds),
        )
        n = min(value * (1 - value) / size**2, self.count * self.seeds)
        z2 = t.ppf(0.975, freedom) ** 2
        middle = (value + z2 / (2 * n)) / (1 + z2 / n)
        half = np.sqrt(z2 * value * (1 - value) / n + (z2 / (2 * n)) ** 2) / (1 + z2 / n)
        return value, middle - half, middle + half

    def difference(self, one: str, two: str) -> tuple[float, float, float]:
        """Return the difference, its standard error and the degrees of freedom."""
        change = self.changes[one].mean(axis=1) - self.changes[two].mean(axis=1)
        keys = {*self.doubt[one], *self.doubt[two]}
        doubt = {key: self.doubt[one].get(key, 0) + self.doubt[two].get(key, 0) for key in keys}
        between = self.between[one] + self.between[two]
        size, freedom = self._error(change, between, doubt, 1 / self.seeds)
        return self.values[one].mean() - self.values[two].mean(), size, freedom

    def critical(self, pairs: list[tuple[str, str]]) -> float:
        """Return the largest standardised difference that 5 of 100 studies exceed by chance."""
        rng = np.random.default_rng(99)
        names = list(self.values)
        shared = np.random.default_rng(98).standard_normal((100_000, self.count))
        noise = {
            name: np.sqrt(self.factor) * shared @ self.changes[name].mean(axis=1)
            + np.sqrt(max(self.between[name], 0)) * rng.standard_normal(len(shared))
            for name in names
        }
        largest = [
            np.abs(noise[one] - noise[two]) / (noise[one] - noise[two]).std() for one, two in pairs
        ]
        return float(np.quantile(np.max(largest, axis=0), 0.95))


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [2, 4])
def test_intervals_and_comparisons_follow_from_the_documented_formulas(
    study: Any, tmp_path: Path, seeds: int
) -> None:
    tables = made_up_study(tmp_path, seeds)
    names = list(tables)
    rows = [f"{name},{int(name == 'one')},0,1,1,0.7,0.6,0.8" for name in names]
    header = "backbone,chosen,seed,tied,eligible,val_accuracy,val_low,val_high"
    (tmp_path / "choice.csv").write_text("\n".join([header, *rows]) + "\n")
    header = "backbone,seed,max_error,confidence,threshold,set_coverage,set_threshold"
    trainings = [f"{name},{seed},,,,," for name in names for seed in range(seeds)]
    (tmp_path / "thresholds.csv").write_text("\n".join([header, *trainings]) + "\n")
    write_costs(tmp_path / "cost", dict.fromkeys(names, [3.0] * 6))
    backbones = {name: {"model": "test_resnet", "weights": "random", "train": {}} for name in names}
    params = study({"backbones": backbones, "seeds": list(range(seeds))})
    done = run_script(
        "aggregate",
        *("--params", params, "--train", tmp_path / "train", "--cost", tmp_path / "cost"),
        *("--evaluate", tmp_path / "evaluate", "--choice", tmp_path / "choice.csv"),
        *("--thresholds", tmp_path / "thresholds.csv", "--output", tmp_path / "out"),
    )
    assert done.returncode == 0, done.stderr
    clean = tables["one"][0]["leaked"] == 0
    right = {
        name: [(own["class"] == own["predicted"])[clean].astype(float) for own in owns]
        for name, owns in tables.items()
    }
    reviewer = Reviewer(right, tables["one"][0]["group"][clean])
    summary = read(tmp_path / "out/summary.csv").set_index("backbone")
    for name in names:
        found = summary.loc[name, ["accuracy", "accuracy_low", "accuracy_high"]].tolist()
        assert found == pytest.approx(reviewer.accuracy(name), abs=1e-5)
    recalls = read(tmp_path / "out/recall.csv").set_index(["backbone", "class"])
    for label in CLASSES:
        own = clean & (tables["one"][0]["class"] == label)
        of_class = {
            name: [(each["class"] == each["predicted"])[own].astype(float) for each in owns]
            for name, owns in tables.items()
        }
        reviewer_of_class = Reviewer(of_class, tables["one"][0]["group"][own])
        for name in names:
            found = recalls.loc[(name, label), ["recall", "low", "high"]].tolist()
            assert found == pytest.approx(reviewer_of_class.accuracy(name), abs=1e-5)
    pairs = list(combinations(names, 2))
    critical = reviewer.critical(pairs)
    comparisons = read(tmp_path / "out/comparisons.csv").set_index(["backbone", "other"])
    for pair in pairs:
        value, size, freedom = reviewer.difference(*pair)
        row = comparisons.loc[pair]
        assert row["difference"] == pytest.approx(value, abs=1e-5)
        assert row["p_value"] == pytest.approx(2 * t.sf(abs(value) / size, freedom), abs=1e-4)
        assert row["better"] == pytest.approx(t.cdf(value / size, freedom), abs=1e-4)
        half = t.isf(norm.sf(critical), freedom) * size
        assert row["difference_high"] - value == pytest.approx(half, rel=0.02)
        assert value - row["difference_low"] == pytest.approx(half, rel=0.02)
