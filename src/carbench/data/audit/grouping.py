"""Duplicate groups: connected components of pairs, without chains that join unlike images."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from carbench.data.audit.duplicates import ImagePair, best_agreement
from carbench.data.audit.views import Views

# The agreement of each image with those that it forms a pair with.
Links = dict[int, dict[int, float]]


def connected_groups(count: int, links: Iterable[tuple[int, int]]) -> NDArray[np.int64]:
    """Return a group number for each of ``count`` images: linked images share one.

    Groups are the connected components of the links, numbered by their first image.
    """
    edges = np.array(list(links), np.int64).reshape(-1, 2)
    graph = coo_array((np.ones(len(edges), bool), (edges[:, 0], edges[:, 1])), (count, count))
    labels = connected_components(graph, directed=False)[1]
    _, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
    order = np.argsort(np.argsort(first))
    return np.asarray(order[inverse], np.int64)


def links_without_chains(
    views: Views,
    pairs: Sequence[ImagePair],
    min_centre_agreement: float,
    apart: Collection[tuple[int, int]] = (),
) -> Iterator[tuple[int, int]]:
    """Yield links (centre, member) of groups in which each member is similar to the centre.

    A group starts as a connected component of the pairs. Its centre is the image with the most and
    strongest pairs. Images that form no pair with the centre are removed if their agreement with
    it is below ``min_centre_agreement``, or if they are listed in ``apart`` with it (lower index
    first). The removed images are grouped again by the pairs among themselves.
    """
    links: Links = defaultdict(dict)
    for pair in pairs:
        links[pair.first][pair.second] = links[pair.second][pair.first] = pair.agreement
    waiting = _components(set(links), links)
    while waiting:
        members = waiting.pop()
        centre = max(sorted(members), key=lambda member: _strength(member, members, links))
        unpaired = np.array(sorted(members - {centre, *links[centre]}), np.intp)
        agreements = best_agreement(views, np.full_like(unpaired, centre), unpaired)
        removed = {
            member
            for member, agreement in zip(unpaired.tolist(), agreements.tolist(), strict=True)
            if agreement < min_centre_agreement
            or (min(centre, member), max(centre, member)) in apart
        }
        for member in sorted(members - removed - {centre}):
            yield centre, member
        waiting += _components(removed, links)


def _strength(member: int, members: set[int], links: Links) -> float:
    return sum(strength for other, strength in links[member].items() if other in members)


def _components(members: set[int], links: Links) -> list[set[int]]:
    """Return the connected components of ``members``."""
    components = []
    left = set(members)
    while left:
        component: set[int] = set()
        edge = {left.pop()}
        while edge:
            component |= edge
            left -= edge
            edge = {other for each in edge for other in links[each] if other in left}
        components.append(component)
    return components
