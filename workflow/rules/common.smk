# Validated parameters and helper functions that all rules share.
#
# Inputs:  params.yaml
# Defines: BACKBONES, SEEDS, POOLS, FIGURES; keys(), recipe(), gpus(), train_gpus(),
#         all_local_cores(), per_attempt(), all_runs(), all_subsets()

import json
import os
import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError
from snakemake.settings.types import DeploymentMethod

# Import the code of this clone, even if several clones share an environment.
sys.path.insert(0, "src")

from carbench.core.errors import CarbenchError
from carbench.core.params import lookup, read_yaml
from carbench.params.study import check
from carbench.params.train import keys_with_effect, recipe_of
from carbench.models.pin_backbones import refuse_unpinned
from carbench.models.timm_names import refuse_unknown

PARAMS = Path("params.yaml")
CONDA = "../../envs/carbench.yaml"
# Maximum number of threads of fetch, audit and pack.
IMAGE_THREADS = 8

try:
    study = check(PARAMS)
    content = read_yaml(PARAMS)
    refuse_unknown(study.backbones, PARAMS)
    for name, backbone in study.backbones.items():
        refuse_unpinned(backbone.weights, name, PARAMS)
    for key, place, what in (
        ("data.path", study.data.path, "the images"),
        ("audit.reviewed", study.audit.reviewed, "the table of reviewed pairs"),
        ("screen.weights", study.screen.weights, "the table of pretrained weights"),
    ):
        if not os.path.exists(place):
            raise CarbenchError(
                PARAMS,
                key=key,
                found=f"nothing at {place}",
                expected=what,
                fix=f"correct {key}",
            )
except CarbenchError as error:
    raise WorkflowError(str(error))


configfile: "params.yaml"


if config != content:
    different = [
        key for key in {**config, **content} if config.get(key) != content.get(key)
    ]
    raise WorkflowError(
        f"params.yaml: {', '.join(different)}: found other values from --config or --configfile; "
        "expected those of params.yaml, which the stages read. Fix: set them in params.yaml"
    )

if DeploymentMethod.APPTAINER in workflow.deployment_settings.deployment_method:
    # An image of a registry, or a .sif file.
    image = os.environ.get("CARBENCH_IMAGE")
    if not image:
        raise WorkflowError(
            "--sdm apptainer: found no CARBENCH_IMAGE; expected the image made from "
            "envs/Dockerfile.train. Fix: export CARBENCH_IMAGE=carbench.sif (docs/images.md)"
        )

    container: image if os.path.exists(image) else f"docker://{image}"


# Jobs run in parallel, and progress bars would overwrite each other.
os.environ.update(CARBENCH_PROGRESS="plain")
# Rules run `python`: that of Snakemake's environment, also if the environment is not activated.
os.environ.update(
    PATH=os.pathsep.join([str(Path(sys.executable).parent), *os.get_exec_path()])
)

BACKBONES = list(config["backbones"])
SEEDS = config["seeds"]
POOLS = list(config["screen"]["candidates"])
# Figures by name, each with its table and images; listed in dvc.yaml only.
FIGURES = read_yaml(Path("dvc.yaml"))["stages"]["plot"]["foreach"]


wildcard_constraints:
    backbone="[A-Za-z][A-Za-z0-9_-]*",
    seed="[0-9]+",
    fraction=r"0\.[0-9]+",
    figure="|".join(FIGURES),
    pool="[A-Za-z][A-Za-z0-9_-]*",


def keys(*names):
    """Return a function that returns the parameters of a job as one JSON string.

    Snakemake stores params as a set of values without names, so two swapped values would go
    unnoticed. `train` stands for its keys that results depend on.
    """
    names = [
        key
        for name in names
        for key in (keys_with_effect() if name == "train" else [name])
    ]

    def values(wildcards):
        if workflow.is_main_process:
            session.verify_metadata(
                workflow.persistence
            )  # defined in sync.smk; called when Snakemake plans
        found = {}
        for name in names:
            key = name.format(**dict(wildcards.items()))
            found[key] = lookup(config, key, PARAMS)
        return json.dumps(found, sort_keys=True)

    return values


def recipe(key):
    """Return a function that returns a key of a backbone's training recipe."""

    def value(wildcards):
        backbone = config["backbones"][wildcards.backbone]
        pretrained = backbone["weights"] != "random"
        return recipe_of(config["train"], backbone["train"], pretrained)[key]

    return value


# Maximum number of GPU jobs at a time; each leases a slot on a GPU (carbench.models.gpu_lease).
if workflow.is_main_process and "gpu" in workflow.global_resources:
    os.environ.update(CARBENCH_GPU_JOBS=str(workflow.global_resources["gpu"].value))
elif workflow.remote_exec:  # that number is the cluster's, not this node's
    os.environ.pop("CARBENCH_GPU_JOBS", None)


def all_local_cores(wildcards):
    """Return the number of threads of a job that must be alone on its machine.

    On a cluster it is the number that the job uses: what the submitting host has says nothing about
    the nodes, and the profile requests a node for it alone.
    """
    own = config["cost"]["threads"]
    return max(own, workflow.cores or 1) if workflow.local_exec else own


def per_attempt(value):
    """Return a function that returns a resource, which grows with each attempt (`retries:`)."""
    return lambda wildcards, attempt: value * attempt


def gpus(section):
    """Return the number of GPUs that a job with the parameters of this section needs."""
    return 1 if config[section]["device"] == "cuda" else 0


def train_gpus(wildcards):
    """Return the number of GPUs that training and tuning of a backbone need."""
    return 1 if recipe("device")(wildcards) == "cuda" else 0


def all_runs(pattern):
    """Return a file for each backbone and seed."""
    return expand(pattern, backbone=BACKBONES, seed=SEEDS)


def all_subsets(pattern):
    """Return a file for each training run on a fraction of the training set."""
    curve = config["learning_curve"]
    return expand(
        pattern,
        backbone=BACKBONES,
        fraction=curve["fractions"],
        seed=curve["seeds"],
    )
