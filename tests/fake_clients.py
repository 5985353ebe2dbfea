"""kubectl and gcloud of a service that plays states, for the tests of workflow/launchers.

Run under the name of one of the two. In the folder CARBENCH_FAKE there are:

- `calls`: one line of words per call;
- `jobs/NAME`: the states that the job still goes through, one per line; the last one remains.
  `error` makes a call fail as if the network did;
- `next`: the states of the job that is created next;
- `sent/NAME`: what a job was created from.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import NoReturn

FOLDER = Path(os.environ["CARBENCH_FAKE"])


def stop(message: str) -> NoReturn:
    """End as a client does that has failed."""
    sys.exit(f"ERROR: {message}")


def next_state(name: str) -> str | None:
    """Return the state of a job, which then goes on to its next one."""
    file = FOLDER / "jobs" / name
    if not file.exists():
        return None
    state, *later = file.read_text().split()
    if later:
        file.write_text("\n".join(later))
    if state == "error":
        stop("connection refused")
    return state


def create(name: str, text: str) -> None:
    """Create a job."""
    file = FOLDER / "jobs" / name
    if file.exists():
        stop(f"{name} already exists")
    (FOLDER / "sent" / name).write_text(text)
    file.write_text((FOLDER / "next").read_text())


def kubectl(verb: str, *words: str) -> None:
    """Do what the launcher asks of kubectl."""
    if verb == "create":
        text = sys.stdin.read()
        create(json.loads(text)["metadata"]["name"], text)
    elif verb == "get" and words[0] == "job":
        state = next_state(words[1])
        if state is None:
            assert "--ignore-not-found" in words
            return
        metadata = {"name": words[1]}
        if state == "deleting":
            metadata["deletionTimestamp"] = "2026-11-28T12:00:00Z"
        ended = {"succeeded": "Complete", "failed": "Failed"}.get(state)
        # A condition may be there with the status False.
        conditions = [{"type": "Suspended", "status": "False"}]
        if ended:
            conditions.append({"type": ended, "status": "True"})
        print(json.dumps({"metadata": metadata, "status": {"conditions": conditions}}))
    elif verb == "get":
        print(
            json.dumps({"items": [pod("old", 9, 143, "Error"), pod("new", 10, 137, "OOMKilled")]})
        )
    elif verb == "logs":
        print(f"the last lines of {words[0]}")
    elif verb == "delete":
        (FOLDER / "jobs" / words[1]).unlink(missing_ok=True)
    else:
        stop(f"unknown: {verb}")


def pod(name: str, hour: int, code: int, reason: str) -> dict[str, object]:
    """Return a pod that has failed."""
    end = {"terminated": {"exitCode": code, "reason": reason}}
    return {
        "metadata": {"name": name, "creationTimestamp": f"2026-11-28T{hour:02}:00:00Z"},
        "status": {"phase": "Failed", "containerStatuses": [{"state": end}]},
    }


def gcloud(*words: str) -> None:
    """Do what the launcher asks of gcloud."""
    group, kind, verb, name = words[:4]
    assert (group, kind) == ("batch", "jobs")
    if verb == "submit":
        create(name, sys.stdin.read())
    elif verb == "describe":
        state = next_state(name)
        if state is None:
            stop("(gcloud.batch.jobs.describe) Could not fetch resource: no such job.")
        if "--format=json" in words:
            event = {"description": "Task failed due to task runtime error with exit code 137."}
            print(json.dumps({"uid": "j-1", "status": {"statusEvents": [event]}}))
        else:
            print(
                {"active": "RUNNING", "deleting": "DELETION_IN_PROGRESS"}.get(state)
                or state.upper()
            )
    elif verb == "delete":
        (FOLDER / "jobs" / name).unlink(missing_ok=True)
    else:
        stop(f"unknown: {verb}")


if __name__ == "__main__":
    with (FOLDER / "calls").open("a") as calls:
        calls.write(" ".join(sys.argv[1:]) + "\n")
    {"kubectl": kubectl, "gcloud": gcloud}[Path(sys.argv[0]).name](*sys.argv[1:])
