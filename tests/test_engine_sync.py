"""Results of one engine are up to date for the other.

Each test is a situation from practice. Both engines have to plan exactly the stale jobs, and
nothing may be computed twice.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from carbench.engines.engine_jobs import dvc_jobs, dvc_plan, snakemake_plan
from conftest import Project, copy_project, repeatable

pytestmark = pytest.mark.slow

MODEL = "results/train/resnet/0/model.safetensors"
# Jobs downstream of the choice, besides figures.
ANSWERS = {"choose", "aggregate", "report", "export"}
CURVE = {"learning_curve", "plot@learning_curve"}


@pytest.fixture
def by_snakemake(smoke_run: Project, tmp_path: Path) -> Project:
    """A copy of a study that Snakemake has run."""
    return copy_project(smoke_run, tmp_path / "study")


@pytest.fixture
def by_dvc(dvc_run: Project, tmp_path: Path) -> Project:
    """A copy of a study that DVC has run, without carbench's records."""
    project = copy_project(dvc_run, tmp_path / "study")
    shutil.rmtree(project.root / ".carbench")
    shutil.rmtree(project.root / ".dvc/cache/carbench")
    return project


@pytest.fixture(params=["snakemake", "dvc"])
def made(request: pytest.FixtureRequest) -> Project:
    """A copy of a study that one engine has run; for both engines."""
    return request.getfixturevalue(f"by_{request.param}")


def plans(project: Project) -> tuple[set[str], set[str]]:
    """Return the jobs that each engine would run."""
    return snakemake_plan(project.root), dvc_plan(project.root)


def figures(project: Project) -> set[str]:
    named = {name for name in dvc_jobs(project.root) if name.startswith("plot@")}
    return named - {"plot@classes", "plot@screening", "plot@learning_curve"}


def edit(project: Project, key: str, value: object) -> None:
    params = project.params
    *parents, last = key.split(".")
    section = params
    for parent in parents:
        section = section[parent]
    section[last] = value
    project.set_params(params)


def ran(project: Project, *command: str) -> set[str]:
    """Run an engine; return the stages that computed something, according to their logs."""
    done = project.run(*command)
    output = done.stdout + done.stderr
    logged = re.findall(r"^(\w+)[^:\n]*: (?!outputs restored)", output, re.M)
    stages = {path.stem for path in (project.root / "scripts").glob("*.py")}
    return set(logged) & stages


def snakemake(project: Project, *targets: str) -> set[str]:
    return ran(project, "snakemake", *targets, "--cores", "2", "--quiet", "progress")


def dvc(project: Project, *targets: str) -> set[str]:
    return ran(project, "dvc", "repro", *targets)


def share(project: Project, remote: Path) -> None:
    """Commit and push the results."""
    project.run("git", "add", "--all")
    project.run("git", "commit", "--quiet", "--message=results")
    project.run("dvc", "remote", "add", "--local", "--default", "shared", str(remote))
    project.run("dvc", "push", "--quiet")


def colleague(project: Project, target: Path, remote: Path) -> Project:
    """Return a fresh clone of another user with the pushed results."""
    subprocess.run(["git", "clone", "--quiet", project.root, target], check=True)
    clone = Project(target)
    (target / ".dvc/config.local").write_text("[core]\n    site_cache_dir = .dvc/tmp/site\n")
    clone.run("git", "config", "user.email", "colleague@example.org")
    clone.run("git", "config", "user.name", "colleague")
    clone.run("dvc", "remote", "add", "--local", "--default", "shared", str(remote))
    clone.run("dvc", "pull", "--quiet")
    return clone


# ---- results of one engine are up to date for the other


def test_after_one_engine_the_other_has_nothing_to_do(made: Project) -> None:
    assert plans(made) == (set(), set())
    assert snakemake(made) == set()
    assert "up to date" in made.run("dvc", "status").stdout
    assert dvc(made) == set()
    assert snakemake(made) == set()


def test_dvc_lock_has_the_text_that_dvc_writes(by_snakemake: Project) -> None:
    from dvc.utils.serialize import dumps_yaml, loads_yaml

    text = (by_snakemake.root / "dvc.lock").read_text()
    assert dumps_yaml(loads_yaml(text)) == text
    by_snakemake.run("dvc", "commit", "--force", "--quiet")
    assert (by_snakemake.root / "dvc.lock").read_text() == text


def test_a_changed_parameter_reruns_what_depends_on_it(by_dvc: Project) -> None:
    """After a run of DVC, both plan the same jobs; after one of Snakemake, see test_reruns.py."""
    made = by_dvc
    edit(made, "choose.margin", 0.02)
    expected = ANSWERS | figures(made)
    assert plans(made) == (expected, expected)
    edit(made, "train.lr", 0.005)
    names = set(dvc_jobs(made.root))
    trained = ("tune", "train", "evaluate", "subset", "calibrate")
    expected |= CURVE | {n for n in names if n.split("@")[0] in trained}
    assert plans(made) == (expected, expected)
    assert "train.lr changed from 0.006 to 0.005" in made.run("carbench", "why", MODEL).stdout
    shown = made.run("snakemake", "-n").stdout
    assert "train.lr changed from 0.006 to 0.005" in shown


def test_two_clones_share_results_through_a_remote(by_snakemake: Project, tmp_path: Path) -> None:
    """A colleague pulls, changes a parameter, runs the other engine, pushes; the owner pulls."""
    share(by_snakemake, tmp_path / "remote")
    clone = colleague(by_snakemake, tmp_path / "clone", tmp_path / "remote")
    assert plans(clone) == (set(), set())
    assert snakemake(clone) == set()
    assert repeatable(clone) == repeatable(by_snakemake)
    edit(clone, "report.title", "Another title")
    assert plans(clone) == ({"report"}, {"report"})
    assert dvc(clone) == {"report"}
    clone.run("git", "commit", "--quiet", "--all", "--message=title")
    clone.run("dvc", "push", "--quiet")
    by_snakemake.run("git", "pull", "--quiet", str(clone.root), "HEAD")
    assert plans(by_snakemake) == ({"report"}, {"report"})
    by_snakemake.run("dvc", "pull", "--quiet")
    assert plans(by_snakemake) == (set(), set())
    assert snakemake(by_snakemake) == set()


def test_clones_that_share_a_cache_compute_nothing_twice(
    by_snakemake: Project, tmp_path: Path
) -> None:
    """The clone has only DVC's cache, as the folder of a `dvc exp run --temp`."""
    clone = copy_project(by_snakemake, tmp_path / "clone")
    for name in (".carbench", ".dvc/cache", "results/split", "results/choose"):
        shutil.rmtree(clone.root / name)
    (clone.root / "dvc.lock").unlink()
    clone.run("dvc", "config", "--local", "cache.dir", str(by_snakemake.root / ".dvc/cache"))
    assert dvc(clone, "--single-item", "split") == set()
    assert snakemake(clone, "results/choose/choice.csv") == set()
    assert repeatable(clone) == repeatable(by_snakemake)


# ---- going back and forth between states


def test_after_undoing_a_change_results_are_restored(by_snakemake: Project) -> None:
    """By the other engine, after a run with the change."""
    made = by_snakemake
    before = repeatable(made)
    page = (made.root / "results/report.html").read_bytes()
    title = made.params["report"]["title"]
    edit(made, "report.title", "Another title")
    assert snakemake(made) == {"report"}
    edit(made, "report.title", title)
    assert plans(made) == ({"report"}, {"report"})
    assert dvc(made) == set()
    assert snakemake(made) == set()
    assert repeatable(made) == before
    assert (made.root / "results/report.html").read_bytes() == page


@pytest.mark.parametrize(
    "command",
    [
        "snakemake --cores 1 --quiet progress --forcerun split --until split",
        "dvc repro --no-run-cache -fs split",
    ],
)
def test_forced_jobs_run_again(by_snakemake: Project, command: str) -> None:
    assert ran(by_snakemake, *command.split()) == {"split"}
    assert plans(by_snakemake) == (set(), set())


def test_a_cluster_that_does_not_pass_on_the_environment_forces_jobs_too(
    by_snakemake: Project,
) -> None:
    submit = ("--executor", "cluster-generic", "--cluster-generic-submit-cmd")
    command = ("snakemake", "--jobs", "1", *submit, 'env -i PATH="$PATH" sh', "--until", "audit")
    log = by_snakemake.root / "results/logs/audit.log"
    (by_snakemake.root / "results/audit/groups.csv").unlink()
    by_snakemake.run(*command)
    assert "outputs restored from the cache" in log.read_text()
    by_snakemake.run(*command, "--forcerun", "audit")
    assert "outputs restored from the cache" not in log.read_text()


def test_experiments_can_be_applied_and_left(by_snakemake: Project) -> None:
    made = by_snakemake
    made.run("git", "add", "--all")
    made.run("git", "commit", "--quiet", "--message=results")
    before = repeatable(made)
    made.run("dvc", "exp", "run", "--name", "other", "-S", "report.title=Other")
    assert plans(made) == (set(), set())
    made.run("git", "checkout", "--quiet", ".")
    made.run("dvc", "checkout", "--quiet")
    assert plans(made) == (set(), set())
    assert repeatable(made) == before
    made.run("dvc", "exp", "apply", "other")
    assert plans(made) == (set(), set())
    assert snakemake(made) == set()


def test_results_of_another_experiment_are_stale(by_dvc: Project) -> None:
    by_dvc.run("git", "add", "--all")
    by_dvc.run("git", "commit", "--quiet", "--message=results")
    by_dvc.run("dvc", "exp", "run", "--name", "other", "-S", "report.title=Others")
    by_dvc.run("git", "checkout", "--quiet", "HEAD", "--", "params.yaml", "dvc.lock")
    assert plans(by_dvc) == ({"report"}, {"report"})
    refused = by_dvc.run("carbench", "exp", "save", "-n", "stale", check=False)
    assert refused.returncode == 1
    assert "report: found report.title changed from Others to" in refused.stderr


def test_only_results_that_are_up_to_date_are_saved_as_an_experiment(by_snakemake: Project) -> None:
    by_snakemake.run("carbench", "exp", "save", "-n", "checked")
    shown = by_snakemake.run("dvc", "exp", "show", "--csv").stdout
    row = next(line for line in shown.splitlines() if line.startswith("checked,"))
    assert "resnet" in row or "mobilenet" in row
    edit(by_snakemake, "report.title", "Another title")
    lock = (by_snakemake.root / "dvc.lock").read_bytes()
    by_snakemake.run("carbench", "sync")
    assert (by_snakemake.root / "dvc.lock").read_bytes() == lock
    assert by_snakemake.run("carbench", "exp", "save", "-n", "stale", check=False).returncode == 1


# ---- edits of code and of results


def test_edited_code_makes_its_stages_stale_even_if_outputs_are_touched(by_dvc: Project) -> None:
    made = by_dvc
    assert plans(made) == (set(), set())
    script = made.root / "scripts/report.py"
    script.write_text(script.read_text() + "\nEDITED = True\n")
    expected = {"report"}
    assert plans(made) == (expected, expected)
    for path in (made.root / "results").rglob("*"):
        if path.is_file():
            path.touch()
    assert plans(made) == (expected, expected)
    touched = made.run("snakemake", "--touch", check=False)
    assert touched.returncode
    assert "report (scripts/report.py changed)" in touched.stdout + touched.stderr
    assert plans(made) == (expected, expected)


def test_a_checkout_that_changes_only_modification_times_reruns_nothing(by_dvc: Project) -> None:
    made = by_dvc
    assert plans(made) == (set(), set())
    for number, path in enumerate(sorted((made.root / "results").rglob("*"))):
        if path.is_file():
            os.utime(path, (1_600_000_000 - number, 1_600_000_000 - number))
    for path in [*(made.root / "src").rglob("*.py"), *(made.root / "scripts").glob("*.py")]:
        path.touch()
    assert plans(made) == (set(), set())


@pytest.mark.parametrize(
    ("made", "how"),
    [("snakemake", "same size, forged time"), ("dvc", "removed")],
    indirect=["made"],
)
def test_a_damaged_result_is_restored(made: Project, how: str) -> None:
    snakemake(made)
    made.run("dvc", "status")  # so that DVC has cached its times
    path = made.root / MODEL
    whole, found = path.read_bytes(), path.stat()
    time.sleep(1.1)  # until it is old enough for its hash to be cached
    snakemake_plan(made.root)
    if how == "removed":
        path.unlink()
    else:
        with path.open("r+b") as file:
            file.seek(-9, os.SEEK_END)
            file.write(b"X")
        os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))
    by_snakemake, by_dvc = plans(made)
    assert "train@resnet-0" in by_snakemake
    assert "train@resnet-0" in by_dvc
    assert MODEL in made.run("carbench", "why", "train@resnet-0").stdout
    assert snakemake(made, MODEL) == set()  # the cache has it
    assert path.read_bytes() == whole
    assert plans(made) == (set(), set())


def test_verify_deep_finds_changes_without_a_new_timestamp(by_snakemake: Project) -> None:
    """Bytes changed by a failing disk, simulated by editing the cache of hashes."""
    import sqlite3

    snakemake_plan(by_snakemake.root)
    path = by_snakemake.root / MODEL
    with path.open("r+b") as file:
        file.seek(-9, os.SEEK_END)
        file.write(b"X")
    found = path.stat()
    signature = f"{found.st_size} {found.st_mtime_ns} {found.st_ino} {found.st_ctime_ns}"
    with sqlite3.connect(by_snakemake.root / ".carbench/hashes.sqlite") as database:
        database.execute("UPDATE hashes SET signature = ? WHERE path = ?", (signature, MODEL))
    assert by_snakemake.run("carbench", "verify").returncode == 0
    done = by_snakemake.run("carbench", "verify", "--deep", check=False)
    assert done.returncode == 1
    assert f"train@resnet-0: {MODEL} is not what the job wrote" in done.stderr
    assert "train@resnet-0" in plans(by_snakemake)[0]
    assert "train@resnet-0" in plans(by_snakemake)[1]


def test_edits_during_a_job_are_detected(by_snakemake: Project) -> None:
    before = (by_snakemake.root / MODEL).read_bytes()
    edit(by_snakemake, "backbones.resnet.train", {"epochs": 20})
    (by_snakemake.root / "results/logs/train/resnet/0.log").unlink()
    process = by_snakemake.start("snakemake", MODEL)
    wait_for(by_snakemake, process, "epoch 2/")
    file = by_snakemake.root / "src/carbench/models/temperature.py"
    text = file.read_text()
    file.write_text(f"{text}\nEDITED = True\n")
    output = process.communicate(timeout=120)[0]
    assert process.returncode
    message = "train resnet 0: train@resnet-0: found that src/carbench/models changed"
    log = "results/logs/train/resnet/0.log"
    assert f"train resnet 0 failed: the end of {log}:\n  {message}" in output
    assert output.count("epoch 2/20") == 1  # the log as a whole is not shown again
    assert not (by_snakemake.root / MODEL).exists()
    file.write_text(text)
    edit(by_snakemake, "backbones.resnet.train", {})
    assert snakemake(by_snakemake, MODEL) == set()
    assert (by_snakemake.root / MODEL).read_bytes() == before


# ---- added and removed jobs


def test_results_of_removed_jobs_are_removed_and_restored(by_dvc: Project) -> None:
    """Also in folders that DVC depends on as a whole; the user's own files stay."""
    table, root = "results/learning_curve/learning_curve.csv", by_dvc.root
    snakemake(by_dvc)
    before = repeatable(by_dvc)
    note = root / "results/subset/notes.txt"
    note.write_text("remember to look at the vans")
    edit(by_dvc, "learning_curve.fractions", [])
    expected = CURVE | {"report"}
    assert plans(by_dvc) == (expected, expected)
    assert dvc(by_dvc, "learning_curve") == {"learning_curve"}
    assert not (root / "results/subset/resnet").exists()
    assert "learning_curve" not in plans(by_dvc)[0] | {*dvc_plan(root)}
    assert snakemake(by_dvc, table) == set()
    assert note.exists()
    note.unlink()

    edit(by_dvc, "learning_curve.fractions", [0.5])
    assert "subset@resnet-0.5-0" in plans(by_dvc)[0]
    assert snakemake(by_dvc) == set()
    assert plans(by_dvc) == (set(), set())
    assert repeatable(by_dvc) == before


def test_a_renamed_stage_runs_again_in_both_engines(by_snakemake: Project) -> None:
    root = by_snakemake.root
    for file in [root / "dvc.yaml", *(root / "workflow/rules").glob("*.smk"), root / "Snakefile"]:
        text = file.read_text()
        text = text.replace("rule choose:", "rule pick:").replace("rules.choose", "rules.pick")
        text = re.sub(r"^  choose:$", "  pick:", text, flags=re.M)
        text = text.replace("scripts/choose.py", "scripts/pick.py")
        file.write_text(text.replace('code("choose")', 'code("pick")'))
    (root / "scripts/choose.py").rename(root / "scripts/pick.py")
    by_snakemake_plan, by_dvc_plan = plans(by_snakemake)
    assert "pick" in by_snakemake_plan
    assert "pick" in by_dvc_plan
    assert snakemake(by_snakemake, "results/choose/choice.csv") == {"pick"}
    assert plans(by_snakemake) == (set(), set())


# ---- caches


def test_results_deleted_by_dvc_gc_are_computed_again(by_snakemake: Project) -> None:
    made = by_snakemake
    title = made.params["report"]["title"]
    edit(made, "report.title", "Another title")
    snakemake(made)
    made.run("dvc", "gc", "--workspace", "--force")
    assert plans(made) == (set(), set())
    edit(made, "report.title", title)
    assert snakemake(made) == {"report"}  # deleted by gc
    assert dvc(made) == set()


@pytest.mark.parametrize("link", ["hardlink", "symlink"])
def test_stored_files_are_never_changed_through_links(by_snakemake: Project, link: str) -> None:
    made = by_snakemake
    made.run("dvc", "config", "--local", "cache.type", link)
    made.run("dvc", "checkout", "--relink", "--quiet")
    assert not os.access(made.root / MODEL, os.W_OK) or os.geteuid() == 0
    assert plans(made) == (set(), set())
    edit(made, "report.title", "Another title")
    ran_report = (dvc if link == "hardlink" else snakemake)(made)
    assert ran_report == {"report"}
    assert plans(made) == (set(), set())
    damaged = made.run("carbench", "verify", "--deep")
    assert "damaged" not in damaged.stderr


def test_modification_times_in_the_future_are_tolerated(by_snakemake: Project) -> None:
    """As after the clock was set back: such results are not stale, and stale ones are detected."""
    made = by_snakemake
    future = time.time() + 1_000_000
    for path in (made.root / "results").rglob("*"):
        os.utime(path, (future, future))
    assert plans(made) == (set(), set())
    edit(made, "report.title", "Another title")
    assert snakemake(made) == {"report"}
    assert plans(made) == (set(), set())


# ---- concurrent runs


def wait_for(project: Project, process: subprocess.Popen[str], text: str) -> None:
    log = project.root / "results/logs/train/resnet/0.log"
    deadline = time.monotonic() + 120
    while not (log.exists() and text in log.read_text()):
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.05)


@contextmanager
def paused(process: subprocess.Popen[str]) -> Iterator[None]:
    """Stop an engine and its jobs, so that they are certainly running."""
    os.killpg(process.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.killpg(process.pid, signal.SIGCONT)


@pytest.fixture
def training(by_snakemake: Project) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start an engine on a long training run."""
    edit(by_snakemake, "backbones.resnet.train", {"epochs": 20})
    started: list[subprocess.Popen[str]] = []

    def begin(*command: str) -> subprocess.Popen[str]:
        (by_snakemake.root / "results/logs/train/resnet/0.log").unlink(missing_ok=True)
        process = by_snakemake.start(*command)
        started.append(process)
        wait_for(by_snakemake, process, "epoch 2/")
        return process

    yield begin
    for process in started:
        process.communicate(timeout=120)


def test_a_second_run_reports_the_active_one_and_stops(
    by_snakemake: Project, training: Callable[..., subprocess.Popen[str]]
) -> None:
    first = training("snakemake", MODEL)
    with paused(first):
        second = by_snakemake.run("dvc", "repro", "train@resnet-0", check=False)
        third = by_snakemake.run("snakemake", MODEL, check=False)
    assert second.returncode
    assert "snakemake" in second.stderr
    assert "busy" in second.stderr
    assert third.returncode
    assert "found another active run" in third.stdout + third.stderr
    assert first.wait(120) == 0


def test_snakemake_reports_an_active_run_of_dvc_and_stops(
    by_snakemake: Project, training: Callable[..., subprocess.Popen[str]]
) -> None:
    first = training("dvc", "repro", "train@resnet-0")
    with paused(first):
        second = by_snakemake.run("snakemake", MODEL, check=False)
    assert second.returncode
    assert "found another active run" in second.stdout + second.stderr
    assert first.wait(120) == 0
    assert snakemake(by_snakemake, MODEL) == set()


def test_a_job_started_twice_is_computed_once(
    by_snakemake: Project, training: Callable[..., subprocess.Popen[str]]
) -> None:
    """The log has what both did, also where Snakemake has removed it before the second attempt."""
    log = by_snakemake.root / "results/logs/train/resnet/0.log"
    first = training("snakemake", MODEL)
    with paused(first):
        log.unlink()
        job = dvc_jobs(by_snakemake.root)["train@resnet-0"]
        second = by_snakemake.start("bash", "-c", job.command)
        assert "train@resnet-0 is being run by process" in second.stdout.readline()
        wait_for(by_snakemake, second, "epoch 2/")
    assert "outputs restored from the cache" in second.communicate(timeout=120)[0]
    assert first.wait(120) == 0
    text = log.read_text()
    for part in ("epoch 1/20", "epoch 20/20", "is being run by", "outputs restored"):
        assert text.count(part) == 1, text
