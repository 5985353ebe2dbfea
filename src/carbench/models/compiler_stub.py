"""Avoids the import of torch's compiler, ``torch._dynamo``, in jobs that do not compile.

torchvision, which timm imports, and every optimiser step import ``torch._dynamo``, only to ask
whether a device is supported and to mark code that is not compiled. This import takes a third of
the start of a job: until the first optimiser step, a process takes 7.7 s of CPU time with it and
5.0 s without it (14.1 and 7.5 s of wall time; medians of 5, 2 shared cores under load, torch 2.15,
timm 1.0.31, torchvision 0.29.2, 2026-11-28). The stubs answer these calls; any other access
imports the real module, which is needed only for ``train.compile`` and the ONNX export.

Supported ways do not save this time: ``TORCHDYNAMO_DISABLE`` and ``TORCH_COMPILE_DISABLE`` prevent
compilation but not the import (7.7 s, too), ``importlib.util.LazyLoader`` loads the module at its
first use, which is the import of torchvision, and timm does not work without torchvision.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

PACKAGE = "torch._dynamo"
UTILS = "torch._dynamo.utils"


class _StubModule(ModuleType):
    """A stub with a few functions; any other attribute imports the real module."""

    def __init__(self, name: str, functions: dict[str, Callable[..., Any]]) -> None:
        super().__init__(name)
        vars(self).update(functions)

    def __getattr__(self, name: str) -> Any:
        # Tools that inspect all modules read __file__ and the like; the import of a submodule reads
        # __path__ of the package.
        if name.startswith("__") and (self.__name__, name) != (PACKAGE, "__path__"):
            raise AttributeError(name)
        load_compiler()
        return getattr(importlib.import_module(self.__name__), name)


def install_stubs() -> None:
    """Install the stubs in sys.modules, unless the compiler is already imported."""
    if PACKAGE not in sys.modules:
        sys.modules[PACKAGE] = _StubModule(
            PACKAGE,
            {
                "disable": _identity_decorator,
                "graph_break": _nothing,
                "allow_in_graph": _identity_decorator,
            },
        )
        sys.modules[UTILS] = _StubModule(UTILS, {"is_compile_supported": _is_compile_supported})


def load_compiler() -> None:
    """Remove the stubs, so that the next import loads the compiler."""
    for name in (PACKAGE, UTILS):
        if isinstance(sys.modules.get(name), _StubModule):
            del sys.modules[name]


def _identity_decorator(function: Any = None, *args: Any, **options: Any) -> Any:
    """Return the function unchanged, or this decorator if called with options only."""
    return function if function is not None else _identity_decorator


def _nothing(*args: Any, **options: Any) -> None:
    pass


def _is_compile_supported(device: str) -> bool:
    load_compiler()
    return bool(importlib.import_module(UTILS).is_compile_supported(device))
