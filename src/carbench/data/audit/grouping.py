"""Makes groups of pairs, and keeps a chain of likenesses from joining images that are unlike."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from carbench.data.audit.duplicates import Pair, agreement_between
from carbench.data.audit.looks import Looks

# Of each image those that it is a pair with, and how well they agree.
Links = dict[int, dict[int, float]]


def group(count: int, links: Iterable[tuple[int, int]]) -> NDArray[np.int64]:
    """Return a group number for each of ``count`` images: linked images share one.

    Groups are the connected components of the links, numbered by their first image.
    """
    edges = np.array(list(links), np.int64).reshape(-1, 2)
    graph = coo_array((np.ones(len(edges), bool), (edges[:, 0], edges[:, 1])), (count, count))
    labels = connected_components(graph, directed=False)[1]
    _, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
    order = np.argsort(np.argsort(first))
    return np.asarray(order[inverse], np.int64)


def unchained(
    looks: Looks,
    pairs: Sequence[Pair],
    min_centre_agreement: float,
    apart: Collection[tuple[int, int]] = (),
) -> Iterator[tuple[int, int]]:
    """Yield links (centre, member) of groups in which everybody looks like the group's centre.

    A group starts as all images that pairs join, directly or through others. Its centre is the
    one with the most and strongest pairs. Whoever neither is a pair with the centre nor agrees
    with it by at least ``min_centre_agreement`` leaves, and those who leave are grouped anew by
    the pairs among themselves. So does whoever is known to be ``apart`` from the centre (the lower
    number first).
    """
    links: Links = defaultdict(dict)
    for pair in pairs:
        links[pair.first][pair.second] = links[pair.second][pair.first] = pair.agreement
    waiting = _components(set(links), links)
    while waiting:
        members = waiting.pop()
        centre = max(sorted(members), key=lambda member: _strength(member, members, links))
        unsure = np.array(sorted(members - {centre, *links[centre]}), np.intp)
        alike = agreement_between(looks, np.full_like(unsure, centre), unsure)
        leaving = {
            member
            for member, agreement in zip(unsure.tolist(), alike.tolist(), strict=True)
            if agreement < min_centre_agreement
            or (min(centre, member), max(centre, member)) in apart
        }
        for member in sorted(members - leaving - {centre}):
            yield centre, member
        waiting += _components(leaving, links)


def _strength(member: int, members: set[int], links: Links) -> float:
    return sum(strength for other, strength in links[member].items() if other in members)


def _components(members: set[int], links: Links) -> list[set[int]]:
    """Return the sets of ``members`` that hang together."""
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
