"""weights: write the initial weights of a backbone, with a record of their origin.

Only this stage and fetch may need network access: training runs read its output. For a random
initialisation no tensors are written: train draws them from its seed. Other weights are adapted to
the model at the study's image size. A backbone that cannot be trained and exported at this size is
rejected here.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from carbench.core.stage import Stage, log, run_stage, stage_parser
from carbench.models.model_file import save_model
from carbench.models.pin_backbones import refuse_unpinned
from carbench.models.timm_names import refuse_unknown
from carbench.params.train import BackboneParams

if TYPE_CHECKING:
    from torch import Tensor


def weights(stage: Stage) -> None:
    name = stage.value("backbones.{backbone}.model")
    start = stage.value("backbones.{backbone}.weights")
    image_size: int = stage.value("train.image_size")
    # The keys are read separately, so that this stage does not depend on the backbone's `train:`.
    params = BackboneParams(model=name, weights=start, train={})

    refuse_unknown({stage.args.backbone: params}, stage.args.params)
    refuse_unpinned(params.weights, stage.args.backbone, stage.args.params)

    tensors: dict[str, Tensor] = {}
    metadata: dict[str, Any] = {"model": params.model, "start": "random"}
    if params.weights != "random":
        from carbench.models.pretrained import fetch_weights

        tensors, origin = fetch_weights(params, f"backbones.{stage.args.backbone}.weights")
        metadata = {"model": params.model, **origin}

    # Imported after the weights are fetched: torch and timm take seconds.
    from carbench.models.dry_run import dry_run

    model = dry_run(params.model, image_size, stage.args.backbone)
    if params.weights != "random":
        from carbench.models.convert_weights import convert_weights

        key = f"backbones.{stage.args.backbone}.weights"
        tensors = convert_weights(tensors, model, params.model, image_size, key)
    with stage.output(stage.args.output) as path:
        save_model(path, tensors, metadata)
    log.info("%s starts from %s", params.model, metadata["start"])


if __name__ == "__main__":
    parser = stage_parser(__doc__)
    parser.add_argument("--backbone", required=True, help="a name under `backbones:`")
    parser.add_argument("--output", type=Path, required=True, help="safetensors file to write")
    run_stage(parser, weights)
