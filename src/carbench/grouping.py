"""Makes groups of pairs, and keeps a chain of likenesses from joining pictures that are unlike."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from carbench.duplicates import Looks, Pair, agreement


def group(count: int, links: Iterable[tuple[int, int]]) -> NDArray[np.int64]:
    """Return a group number for each of ``count`` pictures: linked pictures share one.

    Groups are the connected components of the links, numbered by their first picture.
    """
    edges = np.array(list(links), np.int64).reshape(-1, 2)
    graph = coo_array((np.ones(len(edges), bool), (edges[:, 0], edges[:, 1])), (count, count))
    labels = connected_components(graph, directed=False)[1]
    _, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
    order = np.argsort(np.argsort(first))
    return np.asarray(order[inverse], np.int64)


def unchained(
    looks: Looks, pairs: Sequence[Pair], min_centre_correlation: float
) -> Iterator[tuple[int, int]]:
    """Yield links (centre, member) of groups in which everybody looks like the group's centre.

    A group starts as all pictures that pairs join, directly or through others. Its centre is the
    one with the most and strongest pairs. Whoever neither is a pair with the centre nor agrees
    with it by at least ``min_centre_correlation`` leaves, and those who leave are grouped anew by
    the pairs among themselves.
    """
    names, ends = np.unique([(pair.first, pair.second) for pair in pairs], return_inverse=True)
    ends = ends.reshape(-1, 2)
    strengths = np.array([pair.correlation for pair in pairs])
    waiting = list(_components(np.arange(len(names)), ends, strengths))
    while waiting:
        members, ends, strengths = waiting.pop()
        weight = np.bincount(ends.ravel(), np.repeat(strengths, 2), members.max() + 1)
        centre = members[np.argmax(weight[members])]
        paired = np.unique(ends[(ends == centre).any(axis=1)])
        unsure = np.setdiff1d(members, paired)
        likeness = _likeness(looks, names[centre], names[unsure])
        staying = np.union1d(paired, unsure[likeness >= min_centre_correlation])
        for member in staying[staying != centre]:
            yield int(names[centre]), int(names[member])
        among = ~np.isin(ends, staying).any(axis=1)
        left = np.setdiff1d(members, staying)
        waiting += _components(left, ends[among], strengths[among])


Component = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]


def _components(
    members: NDArray[np.int64], ends: NDArray[np.int64], strengths: NDArray[np.float64]
) -> Iterator[Component]:
    """Yield members, pairs and strengths of what hangs together; single pictures are left out."""
    if not len(ends):
        return
    labels = group(int(members.max()) + 1, map(tuple, ends.tolist()))
    parts: dict[int, list[int]] = defaultdict(list)
    for index, label in enumerate(labels[ends[:, 0]]):
        parts[label].append(index)
    for indices in parts.values():
        yield np.unique(ends[indices]), ends[indices], strengths[indices]


def _likeness(looks: Looks, centre: int, others: NDArray[np.int64]) -> NDArray[np.float32]:
    """Agreement of the others' edges with the centre's, mirrored or not: whichever is more."""
    centres = np.full(len(others), centre)
    return np.maximum(
        agreement(looks, centres, others, False), agreement(looks, centres, others, True)
    )
