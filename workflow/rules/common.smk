# What the rules share: the checked study, and what a job depends on besides its files.
#
# Inputs: params.yaml
# Gives:  BACKBONES, SEEDS, POOLS, FIGURES; keys(), recipe(), gpus(), train_gpus(), all_runs(),
#         all_subsets()

import json
import os
import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError

# The code of this clone, also where several share an environment.
sys.path.insert(0, "src")

from carbench.core.errors import CarbenchError
from carbench.core.params import lookup, read_yaml
from carbench.params.study import check
from carbench.params.train import recipe_of
from carbench.models.pinning import refuse_unpinned
from carbench.models.timm_names import refuse_unknown

PARAMS = Path("params.yaml")
CONDA = "../../envs/carbench.yaml"
# The threads that fetch, audit and pack have a use for; fewer cores, fewer threads.
IMAGE_THREADS = 8

try:
    study = check(PARAMS)
    content = read_yaml(PARAMS)
    refuse_unknown(study.backbones, PARAMS)
    for name, backbone in study.backbones.items():
        refuse_unpinned(backbone.weights, name, PARAMS)
    for key, place, what in (
        ("data.path", study.data.path, "the images"),
        ("audit.reviewed", study.audit.reviewed, "the pairs that a person has judged"),
        ("screen.weights", study.screen.weights, "the table of trained weights"),
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
        "expected those of params.yaml, which the stages read. Fix: make the choice in params.yaml"
    )

# Jobs run side by side, where progress bars would overwrite each other.
os.environ.update(CARBENCH_PROGRESS="plain")

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
    """The parameters that a job reads, as one text.

    Snakemake remembers params as a set of values without names, so that two swapped values would
    go unnoticed; one text with the names in it cannot hide them.
    """

    def values(wildcards):
        if workflow.is_main_process:
            session.confirm(
                workflow.persistence
            )  # of sync.smk; read when Snakemake plans
        found = {}
        for name in names:
            key = name.format(**dict(wildcards.items()))
            found[key] = lookup(config, key, PARAMS)
        return json.dumps(found, sort_keys=True)

    return values


def recipe(key):
    """A key of the recipe of a backbone."""

    def value(wildcards):
        backbone = config["backbones"][wildcards.backbone]
        pretrained = backbone["weights"] != "random"
        return recipe_of(config["train"], backbone["train"], pretrained)[key]

    return value


# So many jobs may use GPUs at a time; each leases a place on one (carbench.models.gpus).
if workflow.is_main_process and "gpu" in workflow.global_resources:
    os.environ.update(CARBENCH_GPU_PLACES=str(workflow.global_resources["gpu"].value))


def gpus(section):
    """How many GPUs a job of this section takes."""
    return 1 if config[section]["device"] == "cuda" else 0


def train_gpus(wildcards):
    """How many GPUs a training takes, and the search for its learning rate."""
    return 1 if recipe("device")(wildcards) == "cuda" else 0


def all_runs(pattern):
    """A file of every backbone x seed."""
    return expand(pattern, backbone=BACKBONES, seed=SEEDS)


def all_subsets(pattern):
    """A file of every training on a fraction of the train part."""
    curve = config["learning_curve"]
    return expand(
        pattern,
        backbone=BACKBONES,
        fraction=curve["fractions"],
        seed=curve["seeds"],
    )
