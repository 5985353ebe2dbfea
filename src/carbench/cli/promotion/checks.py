"""Checks that whoever gets a version of the model gets a complete one, and can repeat it."""

from __future__ import annotations

import subprocess
from pathlib import Path

from carbench.core.errors import CarbenchError
from carbench.engines.code_fingerprint import is_code
from carbench.engines.dvc_config import dvc_option, open_content_store
from carbench.engines.dvc_lock_file import LOCK_FILE, read_entry
from carbench.engines.dvc_remote import DvcRemote
from carbench.engines.dvc_yaml import DEFINITION, PARAMS, JobSpec
from carbench.engines.hashing import Content
from carbench.engines.staleness import all_upstream_jobs, direct_upstream, require_up_to_date
from carbench.engines.sync import job_statuses, open_workspace

EXPORT = "export"
FOLDER = "results/export"
# What a clone needs in order to find the model, besides the code and the results in git.
FILES = (str(LOCK_FILE), str(DEFINITION), str(PARAMS), ".dvc/config")


def require_current_export(root: Path) -> list[JobSpec]:
    """Check that the exported model is what the study makes now; return the jobs that made it.

    Raises:
        CarbenchError: a job is stale, or dvc.lock lacks the export.
    """
    workspace = open_workspace(root)
    statuses = job_statuses(workspace)
    names = [*all_upstream_jobs(EXPORT, direct_upstream(workspace.jobs)), EXPORT]
    require_up_to_date(workspace, {name: statuses[name] for name in names})
    if not statuses[EXPORT].in_dvc_lock:
        raise CarbenchError(
            LOCK_FILE,
            key=EXPORT,
            found="no entry for the current export",
            expected="the one that both engines write",
            fix="`carbench sync`, then commit dvc.lock",
        )
    return [workspace.jobs[name] for name in names]


def require_committed(root: Path, jobs: list[JobSpec]) -> None:
    """Check that the commit has the code, the parameters and the small results of jobs.

    Raises:
        CarbenchError: a file was edited or added since.
    """
    paths = {path for job in jobs for path in job.deps if is_code(path)}
    paths |= {path for job in jobs for path in set(job.outs) - job.cached}
    paths |= {key.rpartition(":")[0] for job in jobs for key in job.params if ":" in key}
    paths |= set(FILES)
    status = ["status", "--porcelain", "-z", "--", *(f":(literal){path}" for path in sorted(paths))]
    changed = [line[3:] for line in git(root, *status).split("\0") if line[2:3] == " "]
    if changed:
        more = f", here and in {len(changed) - 1} other files" if changed[1:] else ""
        raise CarbenchError(
            root / changed[0],
            found=f"changes that are not committed{more}",
            expected="a commit with all that the model was made from",
            fix="git add --all && git commit",
        )


def export_at(root: Path, commit: str) -> Content | None:
    """Return the content of the exported folder in dvc.lock of a commit; None if it has none."""
    try:
        entry = read_entry(git(root, "show", f"{commit}:./{LOCK_FILE}"), EXPORT)
    except subprocess.CalledProcessError:
        return None
    return entry.outs.get(FOLDER) if entry else None


def require_export_at(root: Path, commit: str) -> Content:
    """Return what :func:`export_at` does.

    Raises:
        CarbenchError: the commit has no exported model.
    """
    content = export_at(root, commit)
    if content is None:
        raise CarbenchError(
            f"{commit}:{LOCK_FILE}",
            found="no exported model",
            expected=f"an entry of job {EXPORT} with {FOLDER}",
            fix="commit dvc.lock of a finished study, or specify another version",
        )
    return content


def require_pushed(root: Path, content: Content) -> None:
    """Check that DVC's default remote has the exported folder.

    Raises:
        CarbenchError: there is no default remote, it cannot be reached, or it lacks a file.
    """
    name = dvc_option(root, "core", "remote")
    if not name:
        raise CarbenchError(
            ".dvc/config",
            key="core.remote",
            found="nothing",
            expected="a remote from which others get the model",
            fix="`dvc remote add -d storage URL`, commit .dvc/config, and `dvc push`",
        )
    remote = DvcRemote(root, name)
    listed = open_content_store(root).listed_objects(content)
    missing = [md5 for md5 in (content.md5, *listed) if not remote.has(md5)]
    if missing:
        raise CarbenchError(
            f"remote {name}",
            found=f"{len(missing)} of {len(listed) + 1} objects of {FOLDER} missing",
            expected="the whole exported folder",
            fix="`dvc push` where the study was run, and repeat the command",
        )


def git(root: Path, *arguments: str) -> str:
    """Return the output of git.

    Raises:
        subprocess.CalledProcessError: git ended with an error.
    """
    command = ["git", *arguments]
    return subprocess.run(command, cwd=root, capture_output=True, text=True, check=True).stdout
