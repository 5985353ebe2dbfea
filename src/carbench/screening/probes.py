"""Probes on features: ridge regression and a nearest-neighbour classifier.

Both predict each image by cross-validation. Folds consist of whole duplicate groups, so that no
image is predicted from its own copy.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

# Penalties, in multiples of the number of images.
PENALTIES = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
# Temperature of the weights of neighbours, as in Wu et al. (CVPR 2018).
TEMPERATURE = 0.07
# Images that are compared with all others at a time, to limit memory.
CHUNK = 1024


@dataclass(frozen=True)
class ProbeResult:
    """Cross-validated predictions, class indices (N,) int64, and the selected penalty."""

    predicted: Tensor
    penalty: float


def ridge_probe(features: Tensor, labels: Tensor, folds: Tensor) -> ProbeResult:
    """Classify by ridge regression of the one-hot labels on standardised features.

    The penalty with the smallest squared error on the held-out folds is used for all folds. As it
    is one of eight values, selected by another metric than the reported accuracy, the optimistic
    bias is very small and similar for all candidates.

    Args:
        features: (N, D) float32.
        labels: (N,) int64 class indices.
        folds: (N,) int64; the images of a fold are predicted from all other folds.
    """
    targets = functional.one_hot(labels, int(labels.max()) + 1).to(features.dtype)
    scores = torch.zeros(len(PENALTIES), *targets.shape, dtype=features.dtype)
    for fold in folds.unique():
        held_out = folds == fold
        scores[:, held_out] = _ridge_scores(
            features[~held_out], targets[~held_out], features[held_out]
        )
    errors = (scores - targets).square().mean(dim=(1, 2))
    best = int(errors.argmin())
    return ProbeResult(scores[best].argmax(dim=1), PENALTIES[best])


def _ridge_scores(features: Tensor, targets: Tensor, new: Tensor) -> Tensor:
    """Fit (N, D) to (N, K) with each penalty and return the scores (P, M, K) of (M, D)."""
    middle, spread = features.mean(dim=0), features.std(dim=0).clamp(min=1e-6)
    train, test = (features - middle) / spread, (new - middle) / spread
    mean = targets.mean(dim=0)
    centred = targets - mean
    penalties = torch.tensor(PENALTIES, dtype=features.dtype)[:, None, None] * len(train)
    if train.shape[1] <= train.shape[0]:
        values, vectors = torch.linalg.eigh(train.T @ train)
        projected, test_projected = vectors.T @ (train.T @ centred), test @ vectors
    else:  # more features than images: the dual solution
        values, vectors = torch.linalg.eigh(train @ train.T)
        projected, test_projected = vectors.T @ centred, test @ train.T @ vectors
    weights = projected / (values.clamp(min=0)[:, None] + penalties)
    scores: Tensor = test_projected @ weights + mean
    return scores


def neighbour_probe(features: Tensor, labels: Tensor, folds: Tensor, neighbours: int) -> Tensor:
    """Classify by the weighted votes of the nearest neighbours in other folds.

    The similarity is the cosine of standardised features, the weight exp(similarity / 0.07).

    Args:
        features: (N, D) float32.
        labels: (N,) int64 class indices.
        folds: (N,) int64.
        neighbours: number of neighbours.

    Returns:
        Class indices (N,) int64.
    """
    spread = features.std(dim=0).clamp(min=1e-6)
    directions = functional.normalize((features - features.mean(dim=0)) / spread)
    votes = functional.one_hot(labels, int(labels.max()) + 1).to(features.dtype)
    predicted = []
    for some, own in zip(directions.split(CHUNK), folds.split(CHUNK), strict=True):
        similar = some @ directions.T
        similar[own[:, None] == folds] = -torch.inf
        nearest, places = similar.topk(min(neighbours, similar.shape[1]), dim=1)
        weights = ((nearest - nearest[:, :1]) / TEMPERATURE).exp()
        predicted.append((weights[:, :, None] * votes[places]).sum(dim=1).argmax(dim=1))
    return torch.cat(predicted)
