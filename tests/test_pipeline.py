"""The whole study with either engine: equal results, and clear errors."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from carbench.engines.engine_jobs import dvc_plan, snakemake_plan
from conftest import (
    Project,
    active_environment,
    copy_project,
    copy_repository,
    repeatable,
    run_script,
)

pytestmark = pytest.mark.slow


def test_both_engines_give_the_same_results(smoke_run: Project, dvc_run: Project) -> None:
    by_snakemake, by_dvc = repeatable(smoke_run), repeatable(dvc_run)
    assert by_snakemake == by_dvc
    assert len(by_dvc) > 150
    assert "train/resnet/0/model.safetensors" in by_dvc
    assert dvc_plan(dvc_run.root) == set()


def test_a_finished_study_is_up_to_date(smoke_run: Project) -> None:
    done = smoke_run.run("snakemake", "--cores", "8", "--resources", "gpu=1")
    assert "Nothing to be done" in done.stdout + done.stderr
    assert "up to date" in smoke_run.run("dvc", "status").stdout


def test_no_staging_folders_are_left(smoke_run: Project, dvc_run: Project) -> None:
    for project in (smoke_run, dvc_run):
        assert not list(project.root.rglob(".incomplete-*"))


def test_a_single_figure_can_be_requested(smoke: Project) -> None:
    figure = smoke.root / "results/figures/pareto.svg"
    before = figure.read_bytes()
    figure.unlink()
    smoke.run("snakemake", "results/figures/pareto.svg")
    assert figure.read_bytes() == before
    smoke.run("snakemake", "figures")


def test_snakemakes_own_report_has_the_figures(smoke: Project, tmp_path: Path) -> None:
    smoke.run("snakemake", "--report", str(tmp_path / "report.zip"))
    assert (tmp_path / "report.zip").stat().st_size > 100_000


def test_an_experiment_can_be_compared(dvc_run: Project, tmp_path: Path) -> None:
    made = copy_project(dvc_run, tmp_path / "study")
    made.run("git", "add", "--all")
    made.run("git", "commit", "--quiet", "--message=results")
    made.run("dvc", "exp", "run", "--name", "short", "-S", "train.epochs=1", "aggregate")
    shown = list(csv.DictReader(io.StringIO(made.run("dvc", "exp", "show", "--csv").stdout)))
    experiment = next(row for row in shown if row["Experiment"] == "short")
    baseline = next(row for row in shown if row["Experiment"] == "" and row["rev"] == "main")
    assert experiment["train.epochs"] == "1"
    assert baseline["train.epochs"] == "2"
    assert 0 <= float(experiment["accuracy"]) <= 1
    curves = (made.root / "results/curves.csv").read_text()
    assert {row["epoch"] for row in csv.DictReader(io.StringIO(curves))} == {"1"}
    difference = made.run("dvc", "metrics", "diff", "main", "--all", "--md").stdout
    assert "accuracy_of.resnet" in difference
    compare = ("carbench", "compare")
    output = made.run(*compare, "main", "short", "--json", "numbers.json").stdout
    assert re.match(r"short.* (than|and) main.* (on|to) \d+ shared clean test images", output)
    assert "train.epochs: 2 -> 1" in output
    (compared,) = json.loads((made.root / "numbers.json").read_text())["comparisons"]
    assert set(compared["backbones"]) == {"resnet", "mobilenet"}
    for name, pair in compared["backbones"].items():
        for row, side in ((experiment, "experiment"), (baseline, "reference")):
            accuracy = pair[f"{side}_accuracy"]["value"]
            assert float(row[f"accuracy_of.{name}"]) == round(accuracy / 100, 4)
    assert "no such file" in made.run(*compare, "main~1", "short", check=False).stderr
    (made.root / "numbers.json").unlink()
    made.run("dvc", "plots", "show")
    page = (made.root / "dvc_plots/index.html").read_text()
    assert "confusion" in page
    made.run("dvc", "plots", "diff", "main")
    # Back to the results of the commit.
    made.run("git", "checkout", "--quiet", ".")
    made.run("dvc", "checkout")
    assert dvc_plan(made.root) == set()
    same = made.run(*compare, "main").stdout
    assert "do not differ significantly" in same
    assert same.count("same predictions") == 3
    assert "No parameter differs." in same


def test_an_image_added_to_a_folder_is_detected_by_both_engines(
    smoke: Project, tmp_path: Path
) -> None:
    images = tmp_path / "images"
    shutil.copytree(smoke.root / "results/data/images/train", images)
    (images / "SUV/<i> {seed}.jpg").write_bytes(b"no image")
    project = copy_repository(tmp_path / "folder")
    params = smoke.params
    params["data"] |= {"source": "folder", "path": str(images)}
    project.set_params(params)
    project.run("snakemake", "results/data/manifest.csv")
    project.run("carbench", "sync")
    assert not {"fetch"} & (snakemake_plan(project.root) | dvc_plan(project.root))

    (first, *_) = sorted((images / "SUV").glob("0*.jpg"))
    shutil.copy(first, images / "SUV/added.jpg")
    assert "fetch" in snakemake_plan(project.root)
    assert "fetch" in dvc_plan(project.root)


def test_both_engines_follow_reviewed_pairs(smoke_run: Project, tmp_path: Path) -> None:
    project = copy_project(smoke_run, tmp_path / "reviewed")
    assert "pairs to review" in project.run("carbench", "audit", "review").stdout
    table = project.root / "review/reviewed.csv"
    rows = list(csv.DictReader(io.StringIO(table.read_text())))
    assert rows and (project.root / "review/sheet-1.jpg").is_file()

    params = project.params
    params["audit"]["reviewed"] = "review/reviewed.csv"
    project.set_params(params)
    refused = project.run("carbench", "audit", "review", check=False)
    assert refused.returncode == 1 and "audit" in refused.stderr
    lines = [f"{row['image']},{row['twin']},different" for row in rows]
    table.write_text("\n".join(["image,twin,verdict", *lines]))
    project.run("snakemake", "results/split/split.csv")
    project.run("carbench", "sync")
    residual = json.loads((project.root / "results/split/residual.json").read_text())
    assert (residual["different"], residual["doubtful_waiting"]) == (len(rows), 0)
    assert residual["missed"] is not None
    assert not {"audit", "split"} & (snakemake_plan(project.root) | dvc_plan(project.root))

    table.write_text(table.read_text().replace("different", "same", 1))
    assert "audit" in snakemake_plan(project.root)
    assert "audit" in dvc_plan(project.root)


def test_a_failed_job_reports_the_reason_and_leaves_no_outputs(
    smoke_run: Project, tmp_path: Path
) -> None:
    smoke = copy_project(smoke_run, tmp_path / "study")  # its weights stay in results/weights
    params = smoke.params
    training = {"lr": 1.0e30, "clip_norm": 1.0e30}
    params["backbones"]["broken"] = {"model": "test_resnet", "weights": "random", "train": training}
    params["tune"]["learning_rates"] = []
    smoke.set_params(params)
    done = smoke.run("snakemake", "results/train/broken/0/model.safetensors", check=False)
    output = done.stdout + done.stderr
    assert done.returncode
    assert "train.lr: found a loss of" in output
    assert "Traceback" not in output
    assert not list(smoke.root.glob("results/train/broken/0/*"))


def test_invalid_parameters_are_reported_before_any_job_runs(
    smoke: Project, tmp_path: Path
) -> None:
    """An unknown model, unpinned weights, a missing path."""
    params = smoke.params
    params["backbones"]["broken"] = {"model": "resnet81", "weights": "random", "train": {}}
    smoke.set_params(params)
    done = smoke.run("snakemake", "-n", check=False)
    assert "backbones.broken.model: found 'resnet81'" in done.stdout + done.stderr
    params["backbones"]["broken"] |= {"model": "resnet18", "weights": "pretrained"}
    smoke.set_params(params)
    done = smoke.run("snakemake", "-n", check=False)
    assert "backbones.broken.weights: found 'pretrained'" in done.stdout + done.stderr
    del params["backbones"]["broken"]
    params["data"] |= {"source": "archive", "path": str(tmp_path / "no.zip")}
    smoke.set_params(params)
    done = smoke.run("snakemake", "-n", check=False)
    assert done.returncode
    assert f"data.path: found nothing at {tmp_path / 'no.zip'}" in done.stdout + done.stderr
    (smoke.root / "params.yaml").write_text("epochs: [")
    done = smoke.run("snakemake", "-n", check=False)
    assert "params.yaml: found unreadable YAML" in done.stdout + done.stderr


def test_damaged_results_are_rejected_with_a_message(smoke: Project, tmp_path: Path) -> None:
    results = smoke.root / "results"
    model = tmp_path / "model.safetensors"
    model.write_bytes((results / "train/resnet/0/model.safetensors").read_bytes())
    split = tmp_path / "split.csv"
    split.write_bytes((results / "split/split.csv").read_bytes())

    def evaluate(backbone: str) -> str:
        done = run_script(
            "evaluate",
            *("--params", smoke.root / "params.yaml", "--backbone", backbone, "--seed", 0),
            *("--model", model, "--pack", results / "pack", "--split", split),
            *("--output", tmp_path / "out"),
        )
        assert "Traceback" not in done.stderr
        return done.stderr if done.returncode else ""

    assert evaluate("resnet") == ""
    assert "found the model of resnet, seed 0; expected that of mobilenet" in evaluate("mobilenet")
    whole = split.read_bytes()
    split.write_bytes(whole[:-9])
    assert "split.csv: found line" in evaluate("resnet")
    split.write_bytes(whole)
    content = bytearray(model.read_bytes())
    content[-5] ^= 1
    model.write_bytes(content)
    assert "its tensors do not match their checksum" in evaluate("resnet")


def test_an_interrupted_run_stops_cleanly_and_can_be_continued(
    smoke_run: Project, tmp_path: Path
) -> None:
    smoke = copy_project(smoke_run, tmp_path / "study")
    params = smoke.params
    params["backbones"] = {
        "slow": {"model": "test_resnet", "weights": "random", "train": {"epochs": 3000}}
    }
    smoke.set_params(params)
    target = "results/train/slow/0/model.safetensors"
    log = smoke.root / "results/logs/train/slow/0.log"
    process = subprocess.Popen(
        ["snakemake", target],
        cwd=smoke.root,
        env=active_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        # A shell's background jobs, these tests perhaps among them, ignore what Ctrl-C sends.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    deadline = time.monotonic() + 120
    while not (log.exists() and "epoch 2/" in log.read_text()):
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.2)
    os.killpg(process.pid, signal.SIGINT)  # what Ctrl-C does in a terminal
    output = process.communicate(timeout=60)[0]
    assert process.returncode
    assert "Traceback" not in output
    assert "interrupted; no output was written" in log.read_text()
    assert not list(log.parents[3].glob("train/slow/0/*"))

    params["backbones"]["slow"]["train"] = {}
    smoke.set_params(params)
    smoke.run("snakemake", target)
    assert (smoke.root / target).is_file()
