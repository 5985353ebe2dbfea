"""Results shared through a bucket or a folder: DVC's real client, against servers on loopback."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from buckets import Remote, folder_remote, gcs, s3
from conftest import ROOT, Project, active_environment, copy_repository, wait_for

pytestmark = pytest.mark.slow

OBJECTS = 150
HANG = 150  # seconds; longer than the clients' own retries
VERIFY = ["dvc", "remote", "modify", "storage", "verify", "true"]
# gcsfs tries each object again for half a minute: unless all go at once, a push to a dead server
# ends after that time for each round of jobs.
AT_ONCE = ("--jobs", "200")
# A minimal stage with outputs in the same places as those of the study. No object ends in "\r":
# gcp-storage-emulator reads uploads with a parser of e-mail, which takes it away.
STAGE = {
    "cmd": "python make.py",
    "deps": ["make.py"],
    "outs": ["results/data/images", "results/mistakes.npz"],
    "metrics": [{"results/metrics.json": {"cache": False}}],
}
MAKE = f"""
import random
from pathlib import Path
rng = random.Random(0)
folder = Path("results/data/images")
folder.mkdir(parents=True)
for number in range({OBJECTS}):
    (folder / f"{{number}}.jpg").write_bytes(rng.randbytes(20_000) + b".")
Path("results/mistakes.npz").write_bytes(rng.randbytes(8_000_000) + b".")
Path("results/metrics.json").write_text('{{"accuracy": 0.5}}')
"""


@dataclass
class Person:
    """A clone and the environment of its user."""

    project: Project
    env: dict[str, str]

    def begin(self, *command: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            command,
            cwd=self.project.root,
            env=active_environment() | self.env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def end(self, process: subprocess.Popen[str]) -> tuple[int, str]:
        """Wait for a process, with a timeout."""
        try:
            output = process.communicate(timeout=HANG)[0]
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            pytest.fail(f"hung for {HANG} s\n{process.communicate()[0][-2000:]}")
        return process.returncode, output

    def run(self, *command: str) -> str:
        status, output = self.end(self.begin(*command))
        assert status == 0, f"{command}: {output[-3000:]}"
        return output

    @property
    def cache(self) -> list[Path]:
        folder = self.project.root / ".dvc/cache/files/md5"
        return [path for path in folder.glob("??/*") if re.fullmatch(r"\w+(\.dir)?", path.name)]

    def check_cache(self) -> None:
        """Check that each object has the content of its name."""
        for path in self.cache:
            name = (path.parent.name + path.name).removesuffix(".dir")
            assert hashlib.md5(path.read_bytes()).hexdigest() == name, path

    def files(self) -> dict[str, bytes]:
        results = self.project.root / "results"
        found = {path.relative_to(results).as_posix(): path for path in results.rglob("*")}
        return {
            name: path.read_bytes()
            for name, path in found.items()
            if path.is_file() and path.name != ".gitignore"
        }


def documented(scheme: str) -> list[str]:
    """Return the command of the docs that adds a remote."""
    text = (ROOT / "docs/sharing.md").read_text()
    assert f"$ {' '.join(VERIFY)}\n" in text
    return re.findall(rf"^\$ (dvc remote add -d storage {scheme}\S+)", text, re.M)[0].split()


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project with results in DVC's cache and a lock in git, and no remote yet."""
    project = copy_repository(tmp_path_factory.mktemp("made"))
    (project.root / "make.py").write_text(MAKE)
    stages = {"stages": {"make": STAGE}}
    (project.root / "dvc.yaml").write_text(yaml.safe_dump(stages, sort_keys=False))
    project.run("dvc", "repro", "--quiet")
    project.run("git", "add", "--all")
    project.run("git", "commit", "--quiet", "--message=results")
    return project


Start = Callable[..., tuple[Person, Remote]]


@pytest.fixture
def owner(made: Project, tmp_path: Path) -> Iterator[Start]:
    """The owner of the results, after adding a remote with the command of the docs."""
    begun: list[Remote] = []

    def start(kind: Callable[[Path], Remote]) -> tuple[Person, Remote]:
        store = tmp_path / "store"
        store.mkdir()
        remote = kind(store)
        begun.append(remote)
        remote.start()
        if kind is s3:
            make = "import boto3; boto3.client('s3').create_bucket(Bucket='bucket')"
            subprocess.run([sys.executable, "-c", make], env=os.environ | remote.env, check=True)
        root = tmp_path / "owner"
        shutil.copytree(made.root, root, symlinks=True)
        person = Person(Project(root), remote.env)
        *add, url = documented(remote.url)
        url = url.replace("BUCKET", "bucket").replace("/mnt/share", str(store))
        person.run(*add, url)
        person.run(*VERIFY)
        person.run("git", "commit", "--quiet", "--all", "--message=remote")
        return person, remote

    yield start
    for remote in begun:
        remote.kill()


def colleague(owner: Person) -> Person:
    """Return a fresh clone, which has only what is in git."""
    root = owner.project.root.parent / "colleague"
    subprocess.run(["git", "clone", "--quiet", owner.project.root, root], check=True)
    (root / ".dvc/config.local").write_text("[core]\n    site_cache_dir = .dvc/tmp/site\n")
    return Person(Project(root), owner.env)


def check_pulled(first: Person, second: Person) -> None:
    assert second.files() == first.files()
    assert len(second.files()) == OBJECTS + 2
    second.check_cache()
    assert "up to date" in second.run("dvc", "status")
    assert "in sync" in second.run("dvc", "status", "--cloud")


@pytest.mark.parametrize("kind", [gcs, s3, folder_remote])
def test_a_colleague_pulls_what_was_pushed(owner: Start, kind: Callable[[Path], Remote]) -> None:
    person, _ = owner(kind)
    output = person.run("dvc", "push")
    assert f"{OBJECTS + 2} files pushed" in output
    other = colleague(person)
    assert len(other.files()) == 1  # the small table that git keeps
    other.run("dvc", "pull")
    check_pulled(person, other)


def repair(store: Path) -> None:
    """Reset the emulator's bucket if killing it has damaged its list of objects."""
    (listed,) = store.rglob(".meta")
    try:
        json.loads(listed.read_text())
    except ValueError:
        shutil.rmtree(store)
        store.mkdir()


def test_push_and_pull_can_be_repeated_after_the_server_was_killed(
    owner: Start, tmp_path: Path
) -> None:
    """During a push and a pull; the client, which would retry for minutes, is killed too."""
    person, remote = owner(gcs)
    process = person.begin("dvc", "push", *AT_ONCE)
    wait_for(lambda: sum(1 for _ in (tmp_path / "store").rglob("*")) > 100, process)
    remote.kill()
    repair(tmp_path / "store")
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    remote.start()
    person.run("dvc", "push")

    other = colleague(person)
    process = other.begin("dvc", "pull", *AT_ONCE)
    wait_for(lambda: len(other.cache) > 30, process)
    remote.kill()
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    other.check_cache()
    repair(tmp_path / "store")
    remote.start()
    whole = person.files()
    assert all(whole[name] == content for name, content in other.files().items())
    person.run("dvc", "push")  # in case that the emulator lost its list
    other.run("dvc", "pull")
    check_pulled(person, other)


def test_an_object_damaged_in_the_bucket_is_not_pulled(owner: Start, tmp_path: Path) -> None:
    """Without `verify`, which the docs tell users to set, DVC would accept it."""
    person, _ = owner(gcs)
    person.run("dvc", "push")
    whole = (person.project.root / "results/data/images/7.jpg").read_bytes()
    stored = [path for path in (tmp_path / "store").rglob("*") if path.is_file()]
    (damaged,) = [path for path in stored if path.read_bytes() == whole]
    damaged.write_bytes(whole[:100] + bytes([whole[100] ^ 1]) + whole[101:])
    other = colleague(person)
    status, output = other.end(other.begin("dvc", "pull"))
    assert status
    assert "failed to pull data from the cloud" in output
    assert not (other.project.root / "results/data/images/7.jpg").exists()
    other.check_cache()
