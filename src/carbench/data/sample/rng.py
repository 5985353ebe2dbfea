"""Chance, from one seed: the only room that makes random numbers.

Every image throws its own rng, keyed by what it is (seed, class, number), so that it does not
depend on how many others are drawn, in what order, or by how many processes. Only exact integer
and plain double operations are used, so that no maths library decides a pixel.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
import numpy.typing as npt

T = TypeVar("T")


class Dice:
    """Random choices that depend on nothing but `key` (non-negative integers)."""

    def __init__(self, *key: int) -> None:
        self._generator = np.random.Generator(np.random.PCG64(np.random.SeedSequence(key)))

    def between(self, low: float, high: float) -> float:
        """Uniform in [low, high). Not `Generator.uniform`, whose C code may be fused to an FMA."""
        return low + (high - low) * float(self._generator.random())

    def whole(self, low: int, high: int) -> int:
        """A whole number, both ends included; `low` if the range is empty."""
        return int(self._generator.integers(low, max(low, high), endpoint=True))

    def chance(self, probability: float) -> bool:
        """True with this probability."""
        return float(self._generator.random()) < probability

    def pick(self, options: Sequence[T]) -> T:
        """One of the options, all equally likely."""
        return options[self.whole(0, len(options) - 1)]

    def shuffled(self, options: Sequence[T]) -> list[T]:
        """The options in random order."""
        return [options[int(i)] for i in self._generator.permutation(len(options))]

    def grid(self, low: int, high: int, shape: tuple[int, ...]) -> npt.NDArray[np.int16]:
        """An array of whole numbers, both ends included."""
        return self._generator.integers(low, high, size=shape, dtype=np.int16, endpoint=True)
