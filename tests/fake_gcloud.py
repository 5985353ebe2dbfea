"""A gcloud that knows the commands of envs/google_cloud/cloud.sh, and what they leave behind.

In the folder CARBENCH_FAKE there are:

- `calls`: one line of words per call, as JSON;
- `cloud.json`: what exists, see EMPTY;
- `fail`: the beginning of the command that fails once, as if the network did;
- `job.json`: the last configuration of a job of Google Batch.

Unknown commands and flags are refused. That gcloud itself has them is tested where it is installed.
"""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path
from typing import Any, NoReturn

FOLDER = Path(os.environ["CARBENCH_FAKE"])
EVERYWHERE = {"--project", "--location", "--region", "--format", "--filter", "--quiet"}
# The flags of each command, beside those that many have.
COMMANDS = {
    "services enable": set(),
    "storage buckets describe": set(),
    "storage buckets create": {"--uniform-bucket-level-access", "--public-access-prevention"},
    "storage buckets update": {"--update-labels", "--lifecycle-file"},
    "storage buckets list": set(),
    "storage buckets add-iam-policy-binding": {"--member", "--role"},
    "storage buckets remove-iam-policy-binding": {"--member", "--role"},
    "storage cp": set(),
    "storage rm": {"--recursive"},
    "artifacts repositories describe": set(),
    "artifacts repositories create": {"--repository-format", "--labels"},
    "artifacts repositories list": set(),
    "artifacts repositories delete": set(),
    "artifacts repositories add-iam-policy-binding": {"--member", "--role"},
    "artifacts docker images describe": set(),
    "iam service-accounts describe": set(),
    "iam service-accounts create": {"--description"},
    "iam service-accounts list": set(),
    "iam service-accounts delete": set(),
    "projects add-iam-policy-binding": {"--condition", "--member", "--role"},
    "projects remove-iam-policy-binding": {"--condition", "--member", "--role"},
    "projects get-iam-policy": {"--flatten"},
    "builds submit": {
        *("--config", "--substitutions", "--service-account", "--gcs-source-staging-dir"),
        "--timeout",
    },
    "batch jobs submit": {"--config"},
    "batch jobs list": {"--sort-by", "--limit"},
    "batch jobs delete": set(),
    "compute instances list": set(),
    "run deploy": {
        *("--image", "--service-account", "--no-allow-unauthenticated", "--labels", "--cpu"),
        *("--cpu-boost", "--memory", "--concurrency", "--timeout", "--min-instances"),
        *("--max-instances", "--startup-probe", "--liveness-probe", "--execution-environment"),
    },
    "run services list": set(),
    "run services delete": set(),
}
# Resources by name, each with the value of its label or its description; images; and permissions
# as [resource, member, role].
EMPTY: dict[str, Any] = {
    "buckets": {},
    "repositories": {},
    "service-accounts": {},
    "services": {},
    "jobs": {},
    "images": [],
    "policy": [],
}


def stop(message: str) -> NoReturn:
    """End as gcloud does that has failed."""
    sys.exit(f"ERROR: (gcloud) {message}")


def parse(words: list[str]) -> tuple[str, list[str], dict[str, str]]:
    """Return the command, its positional arguments and its flags."""
    command = next(
        (name for name in COMMANDS if words[: name.count(" ") + 1] == name.split()), None
    )
    if command is None:
        stop(f"Invalid choice: {words[:3]}")
    names, flags = [], {}
    rest = iter(words[command.count(" ") + 1 :])
    for word in rest:
        if not word.startswith("--"):
            names.append(word)
            continue
        flag, equals, value = word.partition("=")
        if flag not in COMMANDS[command] | EVERYWHERE:
            stop(f"unrecognized arguments: {flag}")
        if flag == "--role" and not equals:  # as xargs appends it
            value = next(rest)
        flags[flag] = value
    return command, names, flags


def matching(things: dict[str, str], flags: dict[str, str]) -> list[str]:
    """Return the names of what a filter by label or description selects."""
    wanted = re.fullmatch(
        r"(?:[\w.]*labels\.carbench|description)~(\S+)( AND .*)?", flags["--filter"]
    )
    if wanted is None:
        stop(f"unknown filter: {flags['--filter']}")
    found = [name for name, value in things.items() if re.search(wanted[1], value)]
    return [name for name in found if not wanted[2] or not name.endswith("ended")]


def answer(command: str, names: list[str], flags: dict[str, str], cloud: dict[str, Any]) -> None:
    """Change what exists, or print it."""
    *_, kind, verb = ["", *command.split()]
    name = names[0].removeprefix("gs://") if names else ""
    policy, things = cloud["policy"], cloud.get(kind, {})
    binding = [name, flags.get("--member", "").partition(":")[2], flags.get("--role")]
    if verb == "add-iam-policy-binding":
        if binding[1] not in cloud["service-accounts"]:
            stop(f"service account {binding[1]} does not exist")
        if binding not in policy:
            policy.append(binding)
    elif verb == "remove-iam-policy-binding":
        if binding not in policy:
            stop("Policy binding with the specified member and role not found")
        policy.remove(binding)
    elif verb == "get-iam-policy":
        member = flags["--filter"].partition(":")[2]
        print("\n".join(role for on, who, role in policy if (on, who) == (name, member)))
    elif kind == "images":
        if name not in cloud["images"]:
            stop("Image not found")
    elif command == "builds submit":
        given = dict(re.findall(r"(\w+)=([^,]*)", flags["--substitutions"]))
        image = "train" if given.get("_TRAIN") == "true" else "serve"
        cloud["images"].append(f"{given['_REPOSITORY']}/{image}:{given['_TAG']}")
    elif command == "run deploy":
        if flags["--image"] not in cloud["images"]:
            stop("Image not found")
        cloud["services"][name] = flags["--labels"].removeprefix("carbench=")
    elif command == "batch jobs submit":
        text = sys.stdin.read()
        (FOLDER / "job.json").write_text(text)
        cloud["jobs"][name] = json.loads(text)["labels"]["carbench"]
    elif command == "storage rm":
        del cloud["buckets"][name]
    elif verb == "describe":
        if name not in things:
            stop("NOT_FOUND")
    elif verb == "create":
        if kind == "service-accounts":
            name += f"@{flags['--project']}.iam.gserviceaccount.com"
        if name in things:
            stop("already exists")
        label = flags.get("--labels", "").removeprefix("carbench=")
        things[name] = flags.get("--description", label)
    elif verb == "update":
        things[name] = flags["--update-labels"].removeprefix("carbench=")
    elif verb == "delete":
        del things[name]
        cloud["policy"] = [binding for binding in policy if binding[0] != name]
    elif verb == "list":
        prefix = "gs://" if kind == "buckets" else ""
        print("\n".join(prefix + name for name in matching(things, flags)))


def main(words: list[str]) -> None:
    """Answer a call, and remember it."""
    with (FOLDER / "calls").open("a") as calls:
        calls.write(json.dumps(words) + "\n")
    command, names, flags = parse(words)
    failing = FOLDER / "fail"
    if failing.exists() and " ".join(words).startswith(failing.read_text()):
        failing.unlink()
        stop("connection refused")
    file = FOLDER / "cloud.json"
    cloud = json.loads(file.read_text())
    answer(command, names, flags, cloud)
    file.write_text(json.dumps(cloud))


if __name__ == "__main__":
    main(sys.argv[1:])
