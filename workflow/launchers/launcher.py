"""What the launchers share: the description of a job, settings, and waiting for the job's end.

A launcher runs the command that is appended to it on a worker and waits for it, as the executor of
src/snakemake_executor_plugin_carbench requires. The service that runs the job is asked through its
own command-line client, with the credentials that the client has.
"""

from __future__ import annotations

import argparse
import itertools
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path
from typing import Any, NoReturn, Protocol

import yaml

# Questions to a service that may fail in succession.
MAX_ERRORS = 30


class ClientError(Exception):
    """A client of a service has failed; the text is its message."""


class State(Enum):
    """The state of a job at its service."""

    ABSENT = auto()
    ACTIVE = auto()
    SUCCEEDED = auto()
    # Includes jobs that are being cancelled or deleted.
    FAILED = auto()


@dataclass(frozen=True)
class Job:
    """A job to run.

    Attributes:
        id: a DNS label, the same for each attempt with the same inputs.
        threads: the number of CPUs.
        mem_mb: megabytes of memory.
        minutes: the longest time that it may run.
        gpus: the number of GPUs.
        command: the command's words.
    """

    id: str
    threads: int
    mem_mb: int
    minutes: int
    gpus: int
    command: list[str]


class Service(Protocol):
    """A service that runs jobs. All methods raise ClientError.

    Attributes:
        poll_seconds: the time between two questions, by default.
    """

    poll_seconds: float

    def state(self, name: str) -> State:
        """Return the state of a job."""

    def create(self, name: str, job: Job) -> None:
        """Start a job under a name that is not in use."""

    def explain(self, name: str) -> int:
        """Print why a job has failed; return the exit status of its command, or 1."""

    def delete(self, name: str) -> None:
        """Stop a job, and remove it; do nothing if it does not exist."""


def read_job(usage: str) -> Job:
    """Return the job that the command line describes."""
    parser = argparse.ArgumentParser(
        description=usage, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("id", help="{job_id}")
    parser.add_argument("threads", type=int, help="{threads}")
    parser.add_argument("mem_mb", type=int, help="{resources.mem_mb}")
    parser.add_argument("minutes", type=int, help="{resources.runtime}")
    parser.add_argument("gpus", type=int, help="{resources.gpu}")
    parser.add_argument("command", nargs=argparse.REMAINDER, help="appended by Snakemake")
    job = Job(**vars(parser.parse_args()))
    if not job.command:
        parser.error("no command was appended")
    return job


def setting(name: str, meaning: str) -> str:
    """Return an environment variable, or exit with a message that says what it is for."""
    value = os.environ.get(name)
    if not value:
        fail(f"{name} is not set; expected: {meaning}. Fix: export {name}=...")
    return value


def read_template(script: str) -> dict[str, Any]:
    """Return the YAML file beside a launcher, which has what all its jobs have in common."""
    template: dict[str, Any] = yaml.safe_load(Path(script).with_suffix(".yaml").read_text())
    return template


def call(*command: str, stdin: str | None = None) -> str:
    """Run a client and return its output.

    Raises:
        ClientError: it has failed.
    """
    try:
        done = subprocess.run(
            command,
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            text=True,
        )
    except FileNotFoundError:
        fail(f"{command[0]} is not installed")
    if done.returncode:
        raise ClientError(done.stderr.strip() or f"{command[0]} ended with {done.returncode}")
    return done.stdout


def launch(service: Service, job: Job) -> int:
    """Run a job and wait for its end; return its exit status.

    If the job is already running, since an earlier Snakemake was killed, it is waited for instead.
    SIGTERM and SIGINT stop the job.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    seconds = float(os.environ.get("CARBENCH_POLL_SECONDS") or service.poll_seconds)
    name = None
    try:
        name, state = _choose_name(service, job.id)
        if state is State.ACTIVE:
            print(f"{name} is already running; waiting for it", file=sys.stderr)
        else:
            service.create(name, job)
        return _wait(service, name, seconds)
    except KeyboardInterrupt:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)
        if name:
            try:
                service.delete(name)
            except ClientError as error:
                fail(f"{name} was not stopped: {error}")
        return 128 + signal.SIGTERM
    except ClientError as error:
        fail(str(error))


def fail(message: str) -> NoReturn:
    """Exit with a message."""
    sys.exit(f"{Path(sys.argv[0]).name}: {message}")


def _choose_name(service: Service, job_id: str) -> tuple[str, State]:
    """Return a name under which the job is active or can be created, and its state.

    A name is not used again while the service knows a job that has ended: its logs remain.
    """
    for attempt in itertools.count(1):
        # The hash is at the end; a DNS label has at most 63 characters.
        name = job_id if attempt == 1 else f"{job_id[:39]}{job_id[39:][-20:]}-{attempt}"
        state = service.state(name)
        if state in (State.ABSENT, State.ACTIVE):
            return name, state
    raise AssertionError


def _wait(service: Service, name: str, seconds: float) -> int:
    errors = 0
    while True:
        time.sleep(seconds)
        try:
            state = service.state(name)
        except ClientError as error:
            errors += 1
            if errors == MAX_ERRORS:
                raise
            print(f"{name}: {error}; asking again", file=sys.stderr)
            continue
        errors = 0
        if state is State.SUCCEEDED:
            return 0
        if state is State.FAILED:
            return service.explain(name)
        if state is State.ABSENT:
            fail(f"{name} was deleted")
