"""carbench init: write params.yaml, for a preset or for your own images.

For the name of a preset in presets/, writes that study. For a folder or a zip of images, chooses
parameters that suit them: the split by their folders and number, the image sizes by the headers of
a few hundred files, and the backbones by whether there is a GPU. A params.yaml that has been edited
is not overwritten.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from carbench.cli.new_study.choosing import choose
from carbench.cli.new_study.edited import refuse_edited
from carbench.cli.new_study.steps import PARAMS, next_steps
from carbench.cli.new_study.survey import Survey, survey
from carbench.core.atomic import write_atomic
from carbench.core.errors import CarbenchError
from carbench.core.params import has_control_characters
from carbench.data.images.formats import FORMATS, HEADER_BYTES, detect_format
from carbench.data.sources.open_source import open_source
from carbench.params.data import DataParams
from carbench.params.merging import as_changes, merge_texts
from carbench.params.presets import (
    COMPLETE,
    FOLDER,
    apply_preset,
    preset_names,
    read_preset,
    unknown_preset,
)
from carbench.params.study import check_text

CLASSES_LISTED = 8


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments."""
    parser.add_argument(
        "start",
        metavar="PRESET|FOLDER|ZIP",
        help=f"a preset ({', '.join(preset_names()) or 'none here'}), or your images",
    )
    parser.add_argument(
        "--output",
        type=Path,
        default=PARAMS,
        metavar="FILE",
        help="file to write to (default: %(default)s)",
    )
    parser.add_argument("--force", action="store_true", help="overwrite an edited file")


def run(args: argparse.Namespace) -> int:
    """Write the study; print the choices and the next steps.

    Raises:
        CarbenchError: the preset, folder or zip does not exist, the images are not suitable for a
            study, or the file has been edited. It is then unchanged.
    """
    refuse_edited(args.output, args.force)
    if args.start in preset_names():
        text = apply_preset(args.start)
        print(f"{args.start}: {FOLDER / args.start}.yaml")  # noqa: T201
    else:
        _refuse_no_images(args.start)
        text = _study_of(Path(args.start))
    study = check_text(text, args.output)
    write_atomic(args.output, text)
    print(f"{args.output} is written. Next:")  # noqa: T201
    for step in next_steps(study, args.output):
        print(f"  {step}")  # noqa: T201
    return 0


def _study_of(path: Path) -> str:
    """Survey a set of images, print findings and choices, and return the text of the study."""
    source = "folder" if path.is_dir() else "archive"
    where = {"source": source, "path": path.as_posix()}
    params = DataParams.model_validate(read_preset(COMPLETE)["data"] | where)
    with open_source(params, Path()) as listing:
        found = survey(listing, params, str(path))
    choice = choose(found, _has_gpu())
    for line in [*_described(path, found), *choice.reasons]:
        print(line)  # noqa: T201
    for sentence in choice.warnings:
        print(f"Warning: {sentence}")  # noqa: T201
    head = (
        f"# {found.images:,} images of {len(found.classes)} classes. `carbench init` chose the "
        "data, split, sizes,\n# backbones, seeds and device for them.\n\n"
    )
    values = {f"data.{key}": value for key, value in where.items()} | choice.values
    return merge_texts(apply_preset(choice.preset), head + as_changes(values), "carbench init")


def _described(path: Path, found: Survey) -> list[str]:
    """Return a line that describes the images, and one for their published parts, if any."""
    counts = found.classes
    listed = [f"{label} {count:,}" for label, count in counts.items()]
    if len(listed) > CLASSES_LISTED:
        fewest, most = min(counts, key=counts.__getitem__), max(counts, key=counts.__getitem__)
        listed = [f"from {fewest} {counts[fewest]:,} to {most} {counts[most]:,}"]
    lines = [f"{path}: {found.images:,} images of {len(counts)} classes ({', '.join(listed)})"]
    if found.parts.keys() != {""}:
        parts = (f"{name} {found.parts[name]:,}" for name in found.parts)
        lines.append(f"published parts: {', '.join(parts)}")
    return lines


def _has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


def _refuse_no_images(start: str) -> None:
    """Reject paths that do not exist or that no study can use, and single images."""
    path = Path(start)
    if not path.exists():
        if len(path.parts) == 1 and not path.suffix:
            raise unknown_preset(FOLDER / f"{start}.yaml", "no such preset, folder or zip")
        raise CarbenchError(
            path,
            found="nothing",
            expected=f"a folder or zip of images, or a preset ({', '.join(preset_names())})",
            fix="correct the path",
        )
    if "{" in start or "}" in start or start.startswith("~") or has_control_characters(start):
        raise CarbenchError(
            ascii(start),
            found="a path with braces, control characters or ~ at its start",
            expected="a path that Snakemake and DVC can use",
            fix="rename it",
        )
    if path.is_file():
        with path.open("rb") as file:
            kind = detect_format(file.read(HEADER_BYTES))
        if kind in FORMATS:
            raise CarbenchError(
                path,
                found=f"one image ({kind})",
                expected="a folder or zip that contains a folder of images for each class",
                fix="specify the folder that contains the class folders",
            )
