"""Requests: everything that a worker needs to run a job exactly as the submitter would.

A request holds the job's inputs with their hashes, the text of params.yaml, and the versions of the
packages that results depend on. A worker whose code, versions or files differ refuses it: its
results would belong to other inputs.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from platform import python_version_tuple

from pydantic import TypeAdapter

from carbench.core.errors import CarbenchError
from carbench.core.extras import STUDY_EXTRAS, required_packages
from carbench.engines.dvc_yaml import PARAMS, JobSpec
from carbench.engines.hashing import Content
from carbench.engines.job_records import JobInputs
from carbench.engines.state_files import format_state, parse_state
from carbench.engines.workspace import Workspace
from carbench.remote.bucket import Bucket

VERSION = 1


@dataclass(frozen=True)
class JobRequest:
    """A job to run.

    Attributes:
        job: its name.
        inputs: what it is made from, by hash; for code, the fingerprint.
        files: the content of what it reads except code, by path.
        params: the text of params.yaml.
        versions: of Python and of the packages, as far as results depend on them.
    """

    job: str
    inputs: JobInputs
    files: Mapping[str, Content]
    params: str
    versions: Mapping[str, str]


SCHEMA = TypeAdapter(JobRequest)


def make_request(workspace: Workspace, job: JobSpec, inputs: JobInputs) -> JobRequest:
    """Return the request for a job of the workspace.

    Raises:
        CarbenchError: the job cannot run elsewhere.
    """
    if not job.records_itself:
        raise CarbenchError(
            "dvc.yaml",
            key=f"stages.{job.stage}",
            found=f"`{job.command}`",
            expected="a script that uses carbench.core.stage, to run on another machine",
            fix=f"run {job.stage} here: add its rule to `localrules`",
        )
    files = workspace.files_read_by(job)
    for key in job.params:
        if ":" in key and (content := workspace.content(file := key.rpartition(":")[0])):
            files[file] = content
    for path in files:
        if path.startswith(("/", "../")):
            raise CarbenchError(
                job.name,
                found=f"an input outside of the repository: {path}",
                expected="inputs inside of it, to run on another machine",
                fix=f"run {job.stage} here",
            )
    params = (workspace.root / PARAMS).read_text(encoding="utf-8")
    return JobRequest(job.name, inputs, files, params, installed_versions())


def store_inputs(workspace: Workspace, request: JobRequest) -> None:
    """Add what a job reads to the store, as far as it is in the workspace."""
    for path, content in request.files.items():
        # The store is asked first: the file may be missing here, and a folder takes time to hash.
        if not workspace.store.has(content) and workspace.hashes.content(path) == content:
            workspace.store_content(path, content)


def publish_request(bucket: Bucket, workspace: Workspace, request: JobRequest) -> None:
    """Push what a job reads, then write its request."""
    store_inputs(workspace, request)
    bucket.push(request.files.values())
    text = format_state(VERSION, asdict(request))
    bucket.write_request(request.job, request.inputs.key, text)


def read_request(bucket: Bucket, job: str, key: str) -> JobRequest:
    """Return a published request.

    Raises:
        CarbenchError: there is none, or one of another version of carbench.
    """
    text = bucket.read_request(job, key)
    request = parse_state(text, VERSION, SCHEMA) if text is not None else None
    if request is None or (request.job, request.inputs.key) != (job, key):
        raise CarbenchError(
            bucket.name,
            found=f"no request for {job} with the inputs {key}"
            if text is None
            else f"a request for {job} that this version of carbench cannot read",
            expected="one that `snakemake` has published, with the same version of carbench",
            fix="use the remote and the code of the submitting machine",
        )
    return request


def require_same_versions(request: JobRequest) -> None:
    """Raise an error unless this environment has the submitter's versions.

    Raises:
        CarbenchError: names the packages that differ.
    """
    here = installed_versions()
    different = [
        f"{name} {here.get(name, 'missing')} instead of {request.versions.get(name, 'none')}"
        for name in sorted({*here, *request.versions})
        if here.get(name) != request.versions.get(name)
    ]
    if different:
        raise CarbenchError(
            request.job,
            found=", ".join(different),
            expected="the versions of the submitting machine, as results depend on them",
            fix="install the versions of requirements.lock on both: `make setup`",
        )


def installed_versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that a study requires.

    Without the build (``+cpu``): a CPU and a GPU build of torch are the same version.
    """
    found = {"python": ".".join(python_version_tuple()[:2])}
    for extra in ("", *STUDY_EXTRAS):
        for name in required_packages(extra):
            with suppress(PackageNotFoundError):
                found[name] = re.sub(r"\+.*", "", version(name))
    return found
