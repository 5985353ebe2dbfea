"""Random numbers that are the same on every machine.

Each image has its own generator, keyed by seed, class and number, so that it does not depend on how
many others are drawn, in which order, or by how many processes. Only integer operations and
single double-precision operations are used, so that the maths library has no influence.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
import numpy.typing as npt

T = TypeVar("T")


class PortableRng:
    """A random generator that depends only on `key` (non-negative integers)."""

    def __init__(self, *key: int) -> None:
        self._generator = np.random.Generator(np.random.PCG64(np.random.SeedSequence(key)))

    def uniform(self, low: float, high: float) -> float:
        """Return a number in [low, high). `Generator.uniform` may be compiled to an FMA instead."""
        return low + (high - low) * float(self._generator.random())

    def integer(self, low: int, high: int) -> int:
        """Return an integer in [low, high]; `low` if the range is empty."""
        return int(self._generator.integers(low, max(low, high), endpoint=True))

    def chance(self, probability: float) -> bool:
        """Return True with a probability."""
        return float(self._generator.random()) < probability

    def choice(self, options: Sequence[T]) -> T:
        """Return one of the options, all with the same probability."""
        return options[self.integer(0, len(options) - 1)]

    def shuffled(self, options: Sequence[T]) -> list[T]:
        """Return the options in random order."""
        return [options[int(i)] for i in self._generator.permutation(len(options))]

    def integers(self, low: int, high: int, shape: tuple[int, ...]) -> npt.NDArray[np.int16]:
        """Return an array of integers in [low, high]."""
        return self._generator.integers(low, high, size=shape, dtype=np.int16, endpoint=True)
