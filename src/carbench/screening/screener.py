"""Screens candidates one by one: checks limits, computes features and evaluates probes."""

from __future__ import annotations

import json
import logging
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import timm
import torch
from torch import Tensor, nn

from carbench.core.atomic import write_atomic
from carbench.core.errors import CarbenchError
from carbench.data.loading.batches import Normalizer, PackedImages
from carbench.models.backbones import create_model, load_initial_weights, normalization
from carbench.models.convert_weights import convert_weights
from carbench.models.devices import move_to_device
from carbench.models.macs import count_macs, count_parameters
from carbench.models.pretrained import fetch_weights
from carbench.models.timing import time_calls
from carbench.params.screen import SCREENED, FeatureParams, LimitParams, ProbeParams
from carbench.params.train import BackboneParams
from carbench.screening.candidates import ScreeningCandidate
from carbench.screening.features import FeatureCache, FeatureKey, compute_features, select_precision
from carbench.screening.probes import neighbour_probe, ridge_probe

log = logging.getLogger("carbench")

# Timed runs of a single image; the warm-up runs allocate memory and select GPU kernels.
REPEATS, WARM_UP = 9, 5


@dataclass(frozen=True)
class ScreeningResult:
    """The result for a candidate: its rows in candidates.csv and cost.csv, and its predictions.

    Attributes:
        status: ``screened``, or the reason why not.
        features: number of features per image.
        predicted: cross-validated class indices of the images; empty if not screened.
        latency_ms: measured latency of one image in torch, in milliseconds.
        seconds: measured total time for this candidate.
    """

    model: str
    family: str
    start: str
    license: str = ""
    parameters: int = 0
    macs: int = 0
    features: int = 0
    penalty: float = 0.0
    accuracy: float = 0.0
    neighbour_accuracy: float = 0.0
    status: str = SCREENED
    latency_ms: float = 0.0
    seconds: float = 0.0
    predicted: list[int] = field(default_factory=list)


@dataclass(frozen=True)
class ScreeningImages:
    """The training images that candidates are screened on.

    Attributes:
        images: N images of the pack.
        labels: (N,) int64 class indices.
        folds: (N,) int64, of whole duplicate groups.
        content: sha256 of the names and pixels of the images.
    """

    images: PackedImages
    labels: Tensor
    folds: Tensor
    content: str


class Screener:
    """Screens candidates with the same limits, images and probes.

    Args:
        images: the images for screening.
        limits: limits on cost and licence.
        features: parameters of the feature extraction.
        probe: parameters of the probes.
        device: device of the models.
        cache: cache of features.
        scratch: folder for the results of completed candidates, to resume a killed job; None: do
            not resume.
    """

    def __init__(
        self,
        images: ScreeningImages,
        limits: LimitParams,
        features: FeatureParams,
        probe: ProbeParams,
        device: torch.device,
        cache: FeatureCache,
        scratch: Path | None,
    ) -> None:
        self._images = images
        self._limits = limits
        self._features = features
        self._probe = probe
        self._device = device
        self._cache = cache
        self._scratch = scratch
        self._precision = select_precision(features.precision, device)

    def run(self, candidates: list[ScreeningCandidate]) -> Iterator[ScreeningResult]:
        """Yield the result of each candidate, in order.

        After ``limits.minutes``, no further candidate is started.

        Raises:
            CarbenchError: weights cannot be fetched, or are not the pinned ones. Errors of a model
                itself are reported as its status.
        """
        started = time.monotonic()
        for candidate in candidates:
            minutes = (time.monotonic() - started) / 60
            done = self._load(candidate)
            if done is None and self._limits.minutes and minutes > self._limits.minutes:
                status = f"not reached within {self._limits.minutes:g} minutes"
                yield replace(_describe(candidate), status=status)
                continue
            if done is None:
                screen_started = time.perf_counter()
                done = self._screen(candidate)
                done = replace(done, seconds=time.perf_counter() - screen_started)
                self._save(candidate, done)
            yield done

    def _screen(self, candidate: ScreeningCandidate) -> ScreeningResult:
        result = _describe(candidate)
        try:
            result = self._count(candidate, result)
        except CarbenchError as error:
            return replace(result, status=str(error))
        if status := self._exceeded_limit(result):
            return replace(result, status=status)
        try:
            torch.manual_seed(self._features.seed)
            model = move_to_device(self._create(candidate), self._device).eval()
            latency = self._latency(model)
        except Exception as error:  # any exception of timm and torch
            return replace(result, status=_failure_status(error))
        if self._limits.latency_ms and latency > self._limits.latency_ms:
            status = f"{latency:.1f} ms per image in torch, over {self._limits.latency_ms:g}"
            return replace(result, latency_ms=latency, status=status)
        result = replace(result, latency_ms=latency)
        key = self._feature_key(candidate)
        features = self._cache.load(key)
        if features is None:  # weights are fetched only if they are needed
            with self._initial_weights(candidate) as (tensors, metadata):
                try:
                    features = self._compute(candidate, model, tensors, metadata)
                except Exception as error:
                    return replace(result, status=_failure_status(error))
            self._cache.save(key, features)
        if not bool(features.isfinite().all()):
            return replace(result, status="its features are not all finite")
        return self._evaluate(result, features)

    def _feature_key(self, candidate: ScreeningCandidate) -> FeatureKey:
        pin = candidate.weights
        return FeatureKey(
            candidate.model,
            pin.sha256 if pin else f"random, seed {self._features.seed}",
            self._images.content,
            self._features.image_size,
            self._precision,
            (str(torch.__version__), timm.__version__),
        )

    def _compute(
        self,
        candidate: ScreeningCandidate,
        model: nn.Module,
        tensors: dict[str, Tensor],
        metadata: dict[str, Any],
    ) -> Tensor:
        """Return the features of all images, after loading ``tensors`` if there are any."""
        size = self._features.image_size
        if tensors:
            key = f"screen.weights, {candidate.model}"
            tensors = convert_weights(tensors, model, candidate.architecture, size, key)
            load_initial_weights(model, tensors, Path(candidate.model))
        mean, std = normalization(model)
        return compute_features(
            model.bfloat16() if self._precision == "bfloat16" else model,
            self._images.images,
            Normalizer(metadata.get("mean", mean), metadata.get("std", std), self._device),
            size,
            self._features.batch_size,
            self._precision,
        )

    def _evaluate(self, result: ScreeningResult, features: Tensor) -> ScreeningResult:
        labels, folds = self._images.labels, self._images.folds
        ridge = ridge_probe(features, labels, folds)
        neighbours = neighbour_probe(features, labels, folds, self._probe.neighbours)
        return replace(
            result,
            features=features.shape[1],
            penalty=ridge.penalty,
            accuracy=(ridge.predicted == labels).double().mean().item(),
            neighbour_accuracy=(neighbours == labels).double().mean().item(),
            predicted=ridge.predicted.tolist(),
        )

    def _create(self, candidate: ScreeningCandidate) -> nn.Module:
        """Return the model without a classifier; its output is the features."""
        return create_model(
            candidate.architecture, 0, self._features.image_size, "screen.candidates"
        )

    def _count(self, candidate: ScreeningCandidate, result: ScreeningResult) -> ScreeningResult:
        """Count parameters and multiply-accumulates, on the meta device if possible."""
        size = self._features.image_size
        try:
            with torch.device("meta"):
                model = self._create(candidate).eval()
                macs = count_macs(model, torch.rand(1, 3, size, size))
        except Exception:
            # Some models read values when they are created.
            try:
                model = self._create(candidate).eval()
                macs = count_macs(model, torch.rand(1, 3, size, size))
            except Exception as error:
                raise CarbenchError(
                    "params.yaml",
                    key="screen.features.image_size",
                    found=f"{size}, which {candidate.model} does not support "
                    f"({' '.join(str(error).split())[:120]})",
                    expected="a supported size",
                    fix="remove the candidate, or screen at its size",
                ) from None
        return replace(result, parameters=count_parameters(model), macs=macs)

    def _exceeded_limit(self, result: ScreeningResult) -> str:
        """Return the limit that a candidate exceeds, as a status; empty if none."""
        limits = self._limits
        if limits.licenses and result.license not in limits.licenses:
            return f"licence {result.license or 'unknown'}, not in screen.limits.licenses"
        for name, value in (("parameters", result.parameters), ("macs", result.macs)):
            most = getattr(limits, name)
            if most and value > most * 1e6:
                return f"{value / 1e6:.1f} million {name}, over {most:g}"
        return ""

    def _latency(self, model: nn.Module) -> float:
        """Return the median latency of one image in torch, in milliseconds."""
        size = self._features.image_size
        one = torch.rand(1, 3, size, size, device=self._device)
        one = one.contiguous(memory_format=torch.channels_last)

        def run() -> None:
            model(one)
            if self._device.type == "cuda":
                torch.cuda.synchronize(self._device)

        with torch.inference_mode():
            return 1000 * statistics.median(time_calls(run, REPEATS, WARM_UP))

    @contextmanager
    def _initial_weights(
        self, candidate: ScreeningCandidate
    ) -> Iterator[tuple[dict[str, Tensor], dict[str, Any]]]:
        """Yield initial tensors and their metadata; downloads are removed unless configured."""
        if candidate.weights is None:
            yield {}, {}
            return
        params = BackboneParams(model=candidate.model, weights=candidate.weights, train={})
        key = f"screen.weights, {candidate.model}"
        if self._features.keep_weights:
            yield fetch_weights(params, key)
            return
        if self._scratch is not None:
            self._scratch.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=self._scratch) as folder:
            yield fetch_weights(params, key, Path(folder))

    def _load(self, candidate: ScreeningCandidate) -> ScreeningResult | None:
        """Return the result that a killed run of this job has saved."""
        if self._scratch is None:
            return None
        try:
            return ScreeningResult(
                **json.loads(self._result_path(candidate).read_text(encoding="utf-8"))
            )
        except (OSError, ValueError, TypeError):
            return None

    def _save(self, candidate: ScreeningCandidate, done: ScreeningResult) -> None:
        if self._scratch is not None:
            write_atomic(self._result_path(candidate), json.dumps(asdict(done)))

    def _result_path(self, candidate: ScreeningCandidate) -> Path:
        assert self._scratch is not None
        return self._scratch / f"{candidate.model}.json"


def _describe(candidate: ScreeningCandidate) -> ScreeningResult:
    """Return the description of a candidate from timm."""
    family = timm.model_entrypoint(candidate.architecture).__module__.rpartition(".")[2]
    license = ""
    # timm does not know user-defined tags in the table of weights.
    if candidate.weights and timm.is_model_pretrained(candidate.model):
        config = timm.get_pretrained_cfg(candidate.model)
        license = (config and config.license) or ""
    return ScreeningResult(candidate.model, family, candidate.start, license)


def _failure_status(error: Exception) -> str:
    """Return an exception as the status of a candidate."""
    return f"cannot compute: {(' '.join(str(error).split()) or type(error).__name__)[:200]}"
