"""The Snakefile and dvc.yaml define the same DAG, and dvc.yaml lists the code of each stage."""

from __future__ import annotations

import ast
import json
import re
import shutil
import subprocess
import sys
from functools import cache
from itertools import filterfalse
from pathlib import Path

import grimp
import pytest

from carbench.engines.code_fingerprint import is_code
from carbench.engines.engine_jobs import EngineJob, dvc_jobs, snakemake_jobs
from conftest import ROOT, Project, copy_project

GRAPH = grimp.build_graph("carbench")
STAGES = [path.stem for path in sorted(ROOT.glob("scripts/*.py"))]
# tune and screen load it only if they have something to do.
TORCH = ("cost", "evaluate", "export", "screen", "subset", "train", "tune", "weights")


@pytest.fixture(scope="module")
def jobs(shipped: Project) -> tuple[dict[str, EngineJob], dict[str, EngineJob]]:
    """The jobs of the default study with a learning curve, so that each stage has one."""
    file = shipped.root / "params.yaml"
    text = file.read_text()
    file.write_text(text.replace("  fractions: []", "  fractions: [0.25, 0.5]"))
    found = snakemake_jobs(shipped.root), dvc_jobs(shipped.root)
    file.write_text(text)
    return found


def test_without_fractions_there_are_no_subset_jobs(shipped: Project) -> None:
    jobs = snakemake_jobs(shipped.root)
    assert set(jobs) == set(dvc_jobs(shipped.root))
    assert {name.split("@")[0] for name in jobs} == set(STAGES) - {"subset"}


def test_both_engines_have_the_same_jobs(
    jobs: tuple[dict[str, EngineJob], dict[str, EngineJob]],
) -> None:
    assert set(jobs[0]) == set(jobs[1])
    assert {name.split("@")[0] for name in jobs[0]} == set(STAGES)


def test_commands_outputs_and_parameters_are_the_same(
    jobs: tuple[dict[str, EngineJob], dict[str, EngineJob]],
) -> None:
    for name, by_snakemake in jobs[0].items():
        by_dvc = jobs[1][name]
        assert by_snakemake.command == by_dvc.command, name
        assert by_snakemake.outputs == by_dvc.outputs, name
        assert by_snakemake.params == by_dvc.params, name


def test_dependencies_are_the_same(jobs: tuple[dict[str, EngineJob], dict[str, EngineJob]]) -> None:
    """DVC may list a folder where Snakemake lists the files in it that the job reads."""
    local = "presets/none"
    for name, by_snakemake in jobs[0].items():
        unmatched = by_snakemake.inputs
        for dependency in filterfalse(is_code, jobs[1][name].inputs):
            inside = {path for path in unmatched if path.startswith(f"{dependency}/")}
            assert dependency in unmatched or inside, f"{name}: only dvc.yaml has {dependency}"
            unmatched = unmatched - inside - {dependency}
        assert not unmatched, f"{name}: only the Snakefile has {sorted(unmatched)}"
    assert local in jobs[0]["fetch"].inputs


@pytest.mark.parametrize("stage", STAGES)
def test_dvc_yaml_lists_the_code_of_each_stage(
    stage: str, jobs: tuple[dict[str, EngineJob], dict[str, EngineJob]]
) -> None:
    """Every module that a script imports, directly or not, is in a listed path, and no
    path is listed without need."""
    job = next(job for name, job in jobs[1].items() if name.split("@")[0] == stage)
    listed = {path for path in job.inputs if is_code(path)}
    files = code_of(stage)
    assert not {path for path in files if not within(path, listed) and has_code(path)}
    assert listed == {each for each in listed if any(within(path, {each}) for path in files)}


def within(path: str, listed: set[str]) -> bool:
    return any(path == each or path.startswith(f"{each}/") for each in listed)


def has_code(path: str) -> bool:
    """Anything but a docstring, which is all that some packages have in their __init__."""
    body = ast.parse((ROOT / path).read_text()).body
    return any(not isinstance(each, ast.Expr) for each in body)


@pytest.mark.slow
@pytest.mark.parametrize("stage", STAGES)
def test_a_script_loads_only_its_listed_code(stage: str) -> None:
    """And torch only if the stage uses a model."""
    script = ROOT / f"scripts/{stage}.py"
    imports = [
        node
        for node in ast.walk(ast.parse(script.read_text()))
        if isinstance(node, ast.Import | ast.ImportFrom)
    ]
    modules = ast.unparse(ast.Module(imports, []))
    loaded = loaded_by(f"sys.path.insert(0, 'scripts')\n{modules}")
    files = {
        Path(file).resolve().relative_to(ROOT).as_posix()
        for name, file in loaded.items()
        if name.split(".")[0] == "carbench"
    }
    assert files
    assert files <= code_of(stage)
    assert ("torch" in loaded) == (stage in TORCH)


@pytest.mark.slow
@pytest.mark.parametrize("stage", STAGES)
def test_parameters_are_checked_before_torch_loads(stage: str) -> None:
    start = (
        f"import runpy; sys.argv = ['{stage}.py', '--help']\n"
        f"try: runpy.run_path('scripts/{stage}.py', run_name='__main__')\n"
        "except SystemExit: pass"
    )
    assert "torch" not in loaded_by(start)


def code_of(stage: str) -> set[str]:
    """The files that a stage's script imports, directly or not, itself among them."""
    script = ast.parse((ROOT / f"scripts/{stage}.py").read_text())
    direct = imported_by_name(script)
    for node in ast.walk(script):
        if isinstance(node, ast.Import):
            direct |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            direct |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    modules: set[str] = set()
    waiting = direct & GRAPH.modules
    while waiting:
        module = waiting.pop()
        modules.add(module)
        waiting |= GRAPH.find_modules_directly_imported_by(module) - modules
        waiting |= imported_by_name_in(module) - modules
        if around := module.rpartition(".")[0]:  # the package is imported first
            waiting |= {around} - modules
    return {
        f"scripts/{stage}.py",
        *(file_of(each).relative_to(ROOT).as_posix() for each in modules),
    }


def imported_by_name(tree: ast.AST) -> set[str]:
    """The package whose modules are imported by name, and all of these modules."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr) and ast.unparse(node).startswith("f'carbench."):
            package = node.values[0].value.rstrip(".")
            found |= {package, *GRAPH.find_children(package)}
    return found


@cache  # most modules are those of several stages
def imported_by_name_in(module: str) -> set[str]:
    return imported_by_name(ast.parse(file_of(module).read_text()))


def file_of(module: str) -> Path:
    path = ROOT / "src" / module.replace(".", "/")
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def loaded_by(program: str) -> dict[str, str]:
    """Run a program in a new interpreter and return the modules that it has loaded: their files."""
    report = (
        "import json\n"
        "files = {n: getattr(m, '__file__', None) or '' for n, m in sys.modules.items()}\n"
        "print(json.dumps(files))"
    )
    done = subprocess.run(
        [sys.executable, "-c", f"import sys\n{program}\n{report}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    loaded: dict[str, str] = json.loads(done.stdout.splitlines()[-1])
    return loaded


def test_a_script_runs_the_code_of_its_own_clone(tmp_path: Path) -> None:
    """Not that of the clone that carbench was installed from: `dvc exp run --queue` needs this."""
    shutil.copytree(ROOT / "scripts", tmp_path / "scripts", symlinks=True)
    shutil.copytree(ROOT / "src", tmp_path / "src")
    (tmp_path / "src/carbench/core/stage.py").write_text(
        "raise SystemExit('the code of this clone')"
    )
    done = subprocess.run(
        [sys.executable, "scripts/split.py"], cwd=tmp_path, capture_output=True, text=True
    )
    assert "the code of this clone" in done.stderr


@pytest.mark.parametrize("stage", STAGES)
def test_scripts_read_the_parameters_that_the_rules_declare(
    stage: str, jobs: tuple[dict[str, EngineJob], dict[str, EngineJob]]
) -> None:
    """A key that is not declared would give stale results; one that is not read, needless runs."""
    read = set()
    for node in ast.walk(ast.parse((ROOT / f"scripts/{stage}.py").read_text())):
        match node:
            case ast.Call(ast.Attribute(attr="params" | "value"), [ast.Constant(key), *_]):
                read.add(key)
    rules = "".join(path.read_text() for path in ROOT.glob("workflow/rules/*.smk"))
    rule = re.search(rf"^rule {stage}:(.*?)(?=^rule |\Z)", rules, re.M | re.S)
    assert rule
    declared = set(re.findall(r'"([^"]+)"', re.search(r"choices=keys\((.*?)\)", rule[1], re.S)[1]))
    assert read == declared


def test_git_ignores_exactly_the_outputs_that_dvc_caches(
    shipped: Project, jobs: tuple[dict[str, EngineJob], dict[str, EngineJob]]
) -> None:
    import yaml

    definition = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    outputs = {path for job in jobs[1].values() for path in job.outputs}
    # Git ignores files; of a folder that exists it says that it is not ignored, whatever is in it.
    files = {f"{path}/file" if not Path(path).suffix else path: path for path in sorted(outputs)}
    done = shipped.run("git", "check-ignore", *files)
    ignored = {files[path] for path in done.stdout.split()}
    in_git = set()
    for stage in definition.values():
        stage = stage.get("do", stage)
        for output in [*stage.get("outs", []), *stage.get("metrics", [])]:
            if isinstance(output, dict):
                in_git.update(re.sub(r"\$\{[^}]*\}", "[^/]*", path) for path in output)
    kept = {path for path in outputs if any(re.fullmatch(pattern, path) for pattern in in_git)}
    assert kept == outputs - ignored


@pytest.mark.slow
def test_a_jobs_command_can_be_run_by_hand(smoke_run: Project, tmp_path: Path) -> None:
    project = copy_project(smoke_run, tmp_path / "study")
    job = snakemake_jobs(project.root)["train@resnet-0"]
    folder = project.root / "results/train/resnet/0"
    model, provenance = folder / "model.safetensors", folder / "provenance.json"
    before = model.read_bytes(), provenance.read_bytes()
    model.unlink()
    assert "restored from the cache" in project.run("bash", "-c", job.command).stderr
    assert model.read_bytes() == before[0]
    assert provenance.read_bytes() == before[1]
    project.run("bash", "-c", f"{job.command} --again")
    assert model.read_bytes() == before[0]
    assert provenance.read_bytes() != before[1]  # it contains the time
