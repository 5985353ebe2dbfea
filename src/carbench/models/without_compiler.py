"""Keeps torch's compiler from being loaded by those who only ask whether it is there.

timm (through torchvision) and every optimiser import ``torch._dynamo``, to tell it what not to
compile. That takes 1.1 s of processor time, more than a third of a job's start, and nothing in
carbench compiles unless ``train.compile`` asks for it. A stand-in answers these askers; whoever
wants more of the compiler gets the real one, which then takes the stand-in's place.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

PACKAGE = "torch._dynamo"
UTILS = "torch._dynamo.utils"


class _StandIn(ModuleType):
    """A module that is loaded when more than these functions is asked of it."""

    def __init__(self, name: str, functions: dict[str, Callable[..., Any]]) -> None:
        super().__init__(name)
        vars(self).update(functions)

    def __getattr__(self, name: str) -> Any:
        # Tools that walk over all modules ask for __file__ and the like; __path__ is asked by
        # whoever imports a part of the package.
        if name.startswith("__") and (self.__name__, name) != (PACKAGE, "__path__"):
            raise AttributeError(name)
        use_compiler()
        return getattr(importlib.import_module(self.__name__), name)


def stand_in() -> None:
    """Put the stand-ins where imports find them, unless the compiler is loaded already."""
    if PACKAGE not in sys.modules:
        sys.modules[PACKAGE] = _StandIn(
            PACKAGE, {"disable": _unchanged, "graph_break": _nothing, "allow_in_graph": _unchanged}
        )
        sys.modules[UTILS] = _StandIn(UTILS, {"is_compile_supported": _is_compile_supported})


def use_compiler() -> None:
    """Take the stand-ins away: what is imported from now on is the compiler."""
    for name in (PACKAGE, UTILS):
        if isinstance(sys.modules.get(name), _StandIn):
            del sys.modules[name]


def _unchanged(function: Any = None, *args: Any, **options: Any) -> Any:
    """What `disable` gives where nothing is compiled: the function, or a decorator."""
    return function if function is not None else _unchanged


def _nothing(*args: Any, **options: Any) -> None:
    pass


def _is_compile_supported(device: str) -> bool:
    use_compiler()
    return bool(importlib.import_module(UTILS).is_compile_supported(device))
