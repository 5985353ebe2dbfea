"""Classifiers that are cheap to fit on features: ridge regression, and nearest neighbours.

Both answer every image by cross-validation: from images of other folds only. Folds hold whole
duplicate groups, so that no image is answered from its own copy.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

# Penalties, in multiples of the mean variance of a feature.
PENALTIES = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
# Of the similarities that weigh the neighbours' votes; 0.07 as in Wu et al. (CVPR 2018).
TEMPERATURE = 0.07
# Images that are compared with all others at a time.
CHUNK = 1024


@dataclass(frozen=True)
class Probe:
    """Answers by cross-validation: class indices (N,) int64, and the penalty that was chosen."""

    predicted: Tensor
    penalty: float


def ridge_probe(features: Tensor, labels: Tensor, folds: Tensor) -> Probe:
    """Classify by ridge regression of the one-hot labels on standardised features.

    The penalty with the smallest squared error on the left-out folds is taken for all folds. It is
    one of eight numbers, chosen by another measure than the accuracy that is reported, so that
    choosing it on the same folds flatters a candidate very little, and all candidates alike.

    Args:
        features: (N, D) float32.
        labels: (N,) int64 class indices.
        folds: (N,) int64; a fold's images are answered from all other folds.
    """
    wanted = functional.one_hot(labels, int(labels.max()) + 1).to(features.dtype)
    scores = torch.zeros(len(PENALTIES), *wanted.shape, dtype=features.dtype)
    for fold in folds.unique():
        left_out = folds == fold
        scores[:, left_out] = _ridge(features[~left_out], wanted[~left_out], features[left_out])
    errors = (scores - wanted).square().mean(dim=(1, 2))
    best = int(errors.argmin())
    return Probe(scores[best].argmax(dim=1), PENALTIES[best])


def _ridge(features: Tensor, wanted: Tensor, new: Tensor) -> Tensor:
    """Fit (N, D) to (N, K) with each penalty and return the scores (P, M, K) of (M, D)."""
    middle, spread = features.mean(dim=0), features.std(dim=0).clamp(min=1e-6)
    known, asked = (features - middle) / spread, (new - middle) / spread
    mean = wanted.mean(dim=0)
    target = wanted - mean
    penalties = torch.tensor(PENALTIES, dtype=features.dtype)[:, None, None] * len(known)
    if known.shape[1] <= known.shape[0]:
        values, vectors = torch.linalg.eigh(known.T @ known)
        turned, answers = vectors.T @ (known.T @ target), asked @ vectors
    else:  # more features than images: the same solution from the images' products
        values, vectors = torch.linalg.eigh(known @ known.T)
        turned, answers = vectors.T @ target, asked @ known.T @ vectors
    weights = turned / (values.clamp(min=0)[:, None] + penalties)
    scores: Tensor = answers @ weights + mean
    return scores


def neighbour_probe(features: Tensor, labels: Tensor, folds: Tensor, neighbours: int) -> Tensor:
    """Classify by the votes of the most similar images of other folds.

    Similarity is the cosine of standardised features; a vote weighs exp(similarity / 0.07).

    Args:
        features: (N, D) float32.
        labels: (N,) int64 class indices.
        folds: (N,) int64.
        neighbours: how many vote.

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
