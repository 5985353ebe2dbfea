"""Draws docs/dag.svg and docs/layers.svg: the stages as Snakemake connects them, and the packages.

Run by ``make dag``; ``tests/test_drawings.py`` fails when a drawing is out of date.
"""

from __future__ import annotations

import tempfile
import textwrap
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grimp
import yaml

from carbench.engines.snakemake_internals import snakemake_dag
from layered import Arrow, Box, Look, draw, longest_path, reduced

ROOT = Path(__file__).parents[2]
PLANNED = ("Snakefile", "workflow", "scripts", "src", "presets", "dvc.yaml")

# What is in a package, in a few words; docs/architecture.md has more.
CAPTIONS = {
    "cli": "the commands",
    "tracking": "progress, trackers",
    "engines": "Snakemake and DVC",
    "deploy": "export, service, drift",
    "report": "the page and its figures",
    "statistics": "intervals, comparisons",
    "evaluation": "metrics, explanations",
    "cost": "latency, memory, size",
    "training": "recipe, loop, checkpoints",
    "screening": "many models, one probe",
    "models": "timm, weights, ONNX",
    "data": "images, duplicates, splits",
    "params": "params.yaml, typed",
    "core": "errors, files, provenance",
}


@dataclass(frozen=True)
class Stage:
    """A rule in a DAG.

    Attributes:
        per: the wildcards that its jobs differ in.
        after: the stages whose outputs it reads.
    """

    per: tuple[str, ...]
    after: frozenset[str]


def stages(root: Path, fractions: Sequence[float]) -> dict[str, Stage]:
    """Return the stages of the sample study by name, as Snakemake plans them.

    Args:
        root: the repository.
        fractions: of the training images; without any, nothing is trained on subsets.
    """
    params = yaml.safe_load((root / "presets/sample.yaml").read_text())
    params["learning_curve"]["fractions"] = list(fractions)
    with tempfile.TemporaryDirectory() as name:
        study = Path(name)
        for planned in PLANNED:
            (study / planned).symlink_to(root / planned)
        (study / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
        with snakemake_dag(study) as dag:
            return _by_rule([job for job in dag.jobs if job.rule.shellcmd])


def dag_drawing(root: Path = ROOT) -> str:
    """Return the drawing of the stages."""
    usual, found = stages(root, []), stages(root, [0.5])
    arrows = reduced([(one, name) for name, stage in found.items() for one in stage.after])
    inner = {start for start, _ in arrows}
    boxes = [
        Box(
            name,
            captions=tuple(textwrap.wrap(f"per {' × '.join(stage.per)}", 19)) if stage.per else (),
            many=bool(stage.per),
            optional=name not in usual,
            end=name not in inner,
        )
        for name, stage in sorted(found.items())
    ]
    optional = " and ".join(sorted(found.keys() - usual.keys()))
    return draw(
        boxes,
        arrows,
        longest_path(arrows),
        Look(rightwards=True, box=(0, 52), along=38, across=18),
        title="The stages of a study, from the images to the report and the exported model",
        notes=[
            "An arrow leads from a stage to those that use its results; arrows implied by others"
            f" are left out. {optional} (dashed) runs only if the study asks for a learning curve."
        ],
    )


def layers_drawing(root: Path = ROOT) -> str:
    """Return the drawing of the packages: which imports which."""
    contracts = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["importlinter"]
    layers = contracts["contracts"][0]["layers"]
    graph = grimp.build_graph("carbench", cache_dir=None)
    imports = [
        (one, other)
        for one in layers
        for other in layers
        if one != other
        and graph.direct_import_exists(
            importer=f"carbench.{one}", imported=f"carbench.{other}", as_packages=True
        )
    ]
    boxes = [Box(name, tuple(filter(None, [CAPTIONS.get(name)]))) for name in layers]
    return draw(
        boxes,
        reduced(imports),
        _rows(layers, imports),
        Look(rightwards=False, box=(172, 48), along=36, across=22),
        title="The packages of carbench, and which imports which",
        notes=["An arrow leads to an imported package; arrows implied by others are left out."],
    )


DRAWINGS = {"docs/dag.svg": dag_drawing, "docs/layers.svg": layers_drawing}


def _by_rule(jobs: Sequence[Any]) -> dict[str, Stage]:
    maker = {str(path): job.rule.name for job in jobs for path in job.output}
    per = {job.rule.name: tuple(job.wildcards_dict) for job in jobs}
    return {
        name: Stage(
            per[name],
            frozenset(
                maker[str(path)]
                for job in jobs
                if job.rule.name == name
                for path in job.input
                if str(path) in maker
            ),
        )
        for name in per
    }


def _rows(layers: Sequence[str], imports: Sequence[Arrow]) -> Mapping[str, int]:
    """The row of each layer: as far up as its order and what imports it allow."""
    rows: list[set[str]] = [set()]
    importers = {name: {one for one, other in imports if other == name} for name in layers}
    for name in layers:
        if rows[-1] & importers[name]:
            rows.append(set())
        rows[-1].add(name)
    return {name: number for number, row in enumerate(rows) for name in row}


if __name__ == "__main__":
    for path, drawing in DRAWINGS.items():
        (ROOT / path).write_text(drawing())
