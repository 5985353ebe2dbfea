"""Screens candidates one after the other: limits, features, probes. Loads torch and timm."""

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
from carbench.models.backbones import create, load_start, normalization
from carbench.models.devices import place
from carbench.models.macs import count_macs, count_parameters
from carbench.models.pretrained import fetch_start
from carbench.models.starting import adapt
from carbench.models.timing import times
from carbench.params.screen import SCREENED, FeatureParams, LimitParams, ProbeParams
from carbench.params.train import BackboneParams
from carbench.screening.candidates import Candidate
from carbench.screening.features import FeatureCache, Origin, compute_features, precision_for
from carbench.screening.probing import neighbour_probe, ridge_probe

log = logging.getLogger("carbench")

# Timed runs of a single image. The first ones pay for allocation and, on a GPU, choose kernels.
REPEATS, WARM_UP = 9, 5


@dataclass(frozen=True)
class Screened:
    """What is known of a candidate: a row of candidates.csv and one of cost.csv, and its answers.

    Attributes:
        status: ``screened``, or why not.
        features: how many numbers the model computes of an image.
        predicted: class indices of the images, by cross-validation; empty if not screened.
        latency_ms: measured, of one image in torch, in milliseconds.
        seconds: measured, of all that was done for this candidate.
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
class Images:
    """The training images that candidates are screened on.

    Attributes:
        images: N images out of the pack.
        labels: (N,) int64 class indices.
        folds: (N,) int64; whole duplicate groups.
        content: the sha256 of the images' names and pixels.
    """

    images: PackedImages
    labels: Tensor
    folds: Tensor
    content: str


class Screening:
    """Candidates under the same limits, on the same images, with the same probes.

    Args:
        images: what they are judged on.
        limits: what they may cost.
        features: how features are computed.
        probe: how they are judged.
        device: where models compute.
        cache: where features are kept.
        scratch: a folder for candidates that are done, should this job be killed; None: nowhere.
    """

    def __init__(
        self,
        images: Images,
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
        self._precision = precision_for(features.precision, device)

    def run(self, candidates: list[Candidate]) -> Iterator[Screened]:
        """Yield what is known of each candidate, in their order.

        Past ``limits.minutes`` no further candidate is begun.

        Raises:
            CarbenchError: weights cannot be fetched, or are not the pinned ones. What a model
                itself cannot do is no error: its status says so.
        """
        started = time.monotonic()
        for candidate in candidates:
            minutes = (time.monotonic() - started) / 60
            done = self._load(candidate)
            if done is None and self._limits.minutes and minutes > self._limits.minutes:
                status = f"not reached within {self._limits.minutes:g} minutes"
                yield replace(_described(candidate), status=status)
                continue
            if done is None:
                begun = time.perf_counter()
                done = self._screen(candidate)
                done = replace(done, seconds=time.perf_counter() - begun)
                self._save(candidate, done)
            yield done

    def _screen(self, candidate: Candidate) -> Screened:
        known = _described(candidate)
        try:
            known = self._measured(candidate, known)
        except CarbenchError as error:
            return replace(known, status=str(error))
        if refusal := self._refusal(known):
            return replace(known, status=refusal)
        try:
            torch.manual_seed(self._features.seed)
            model = place(self._create(candidate), self._device).eval()
            latency = self._latency(model)
        except Exception as error:  # of any kind: timm and torch have many
            return replace(known, status=_said(error))
        if self._limits.latency_ms and latency > self._limits.latency_ms:
            status = f"{latency:.1f} ms per image in torch, over {self._limits.latency_ms:g}"
            return replace(known, latency_ms=latency, status=status)
        known = replace(known, latency_ms=latency)
        origin = self._origin(candidate)
        features = self._cache.load(origin)
        if features is None:  # only now are weights needed: they may have to be downloaded
            with self._start(candidate) as (tensors, about):
                try:
                    features = self._compute(candidate, model, tensors, about)
                except Exception as error:
                    return replace(known, status=_said(error))
            self._cache.save(origin, features)
        if not bool(features.isfinite().all()):
            return replace(known, status="its features are not all finite")
        return self._judged(known, features)

    def _origin(self, candidate: Candidate) -> Origin:
        pin = candidate.weights
        return Origin(
            candidate.model,
            pin.sha256 if pin else f"random, seed {self._features.seed}",
            self._images.content,
            self._features.image_size,
            self._precision,
            (str(torch.__version__), timm.__version__),
        )

    def _compute(
        self,
        candidate: Candidate,
        model: nn.Module,
        tensors: dict[str, Tensor],
        about: dict[str, Any],
    ) -> Tensor:
        """Return the features of all images; the model is started from ``tensors``, if any."""
        size = self._features.image_size
        if tensors:
            key = f"screen.weights, {candidate.model}"
            tensors = adapt(tensors, model, candidate.architecture, size, key)
            load_start(model, tensors, Path(candidate.model))
        mean, std = normalization(model)
        return compute_features(
            model.bfloat16() if self._precision == "bfloat16" else model,
            self._images.images,
            Normalizer(about.get("mean", mean), about.get("std", std), self._device),
            size,
            self._features.batch_size,
            self._precision,
        )

    def _judged(self, known: Screened, features: Tensor) -> Screened:
        labels, folds = self._images.labels, self._images.folds
        ridge = ridge_probe(features, labels, folds)
        neighbours = neighbour_probe(features, labels, folds, self._probe.neighbours)
        return replace(
            known,
            features=features.shape[1],
            penalty=ridge.penalty,
            accuracy=(ridge.predicted == labels).double().mean().item(),
            neighbour_accuracy=(neighbours == labels).double().mean().item(),
            predicted=ridge.predicted.tolist(),
        )

    def _create(self, candidate: Candidate) -> nn.Module:
        """Return the model without a classifier: what it computes are the features."""
        return create(candidate.architecture, 0, self._features.image_size, "screen.candidates")

    def _measured(self, candidate: Candidate, known: Screened) -> Screened:
        """Count parameters and multiply-accumulates, without memory or time where timm allows."""
        size = self._features.image_size
        try:
            with torch.device("meta"):
                model = self._create(candidate).eval()
                macs = count_macs(model, torch.rand(1, 3, size, size))
        except Exception:
            # Some models look at values while they are made.
            try:
                model = self._create(candidate).eval()
                macs = count_macs(model, torch.rand(1, 3, size, size))
            except Exception as error:
                raise CarbenchError(
                    "params.yaml",
                    key="screen.features.image_size",
                    found=f"{size}, which {candidate.model} cannot compute with "
                    f"({' '.join(str(error).split())[:120]})",
                    expected="a size that it takes",
                    fix="leave it out, or screen at its own size",
                ) from None
        return replace(known, parameters=count_parameters(model), macs=macs)

    def _refusal(self, known: Screened) -> str:
        """Say which limit a candidate is over; empty if none."""
        limits = self._limits
        if limits.licenses and known.license not in limits.licenses:
            return f"licence {known.license or 'unknown'}, not in screen.limits.licenses"
        for name, value in (("parameters", known.parameters), ("macs", known.macs)):
            most = getattr(limits, name)
            if most and value > most * 1e6:
                return f"{value / 1e6:.1f} million {name}, over {most:g}"
        return ""

    def _latency(self, model: nn.Module) -> float:
        """Return the median milliseconds of one image in torch: nothing is exported yet."""
        size = self._features.image_size
        one = torch.rand(1, 3, size, size, device=self._device)
        one = one.contiguous(memory_format=torch.channels_last)

        def run() -> None:
            model(one)
            if self._device.type == "cuda":
                torch.cuda.synchronize(self._device)

        with torch.inference_mode():
            return 1000 * statistics.median(times(run, REPEATS, WARM_UP))

    @contextmanager
    def _start(self, candidate: Candidate) -> Iterator[tuple[dict[str, Tensor], dict[str, Any]]]:
        """Yield starting tensors and where they are from; downloads go again unless asked for."""
        if candidate.weights is None:
            yield {}, {}
            return
        params = BackboneParams(model=candidate.model, weights=candidate.weights, train={})
        key = f"screen.weights, {candidate.model}"
        if self._features.keep_weights:
            yield fetch_start(params, key)
            return
        if self._scratch is not None:
            self._scratch.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=self._scratch) as folder:
            yield fetch_start(params, key, Path(folder))

    def _load(self, candidate: Candidate) -> Screened | None:
        """Return what a killed run of this job has found."""
        if self._scratch is None:
            return None
        try:
            return Screened(**json.loads(self._place(candidate).read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return None

    def _save(self, candidate: Candidate, done: Screened) -> None:
        if self._scratch is not None:
            write_atomic(self._place(candidate), json.dumps(asdict(done)))

    def _place(self, candidate: Candidate) -> Path:
        assert self._scratch is not None
        return self._scratch / f"{candidate.model}.json"


def _described(candidate: Candidate) -> Screened:
    """What timm knows of a candidate."""
    family = timm.model_entrypoint(candidate.architecture).__module__.rpartition(".")[2]
    license = ""
    # A tag of one's own, in the table of weights, is none that timm knows.
    if candidate.weights and timm.is_model_pretrained(candidate.model):
        config = timm.get_pretrained_cfg(candidate.model)
        license = (config and config.license) or ""
    return Screened(candidate.model, family, candidate.start, license)


def _said(error: Exception) -> str:
    """Return what a candidate cannot do as its status."""
    return f"cannot compute: {(' '.join(str(error).split()) or type(error).__name__)[:200]}"
