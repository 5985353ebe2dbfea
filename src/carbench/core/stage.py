"""The frame around every stage script: arguments, parameters, logging, complete outputs, errors.

A script describes its arguments, then calls :func:`run_stage` with a function that does the work:

    parser = stage_parser(__doc__)
    parser.add_argument("--data", type=Path, required=True)
    run_stage(parser, build)
"""

from __future__ import annotations

import argparse
import atexit
import importlib
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn, Protocol

from carbench.core.atomic import move_into_place, staging_folder
from carbench.core.errors import CarbenchError
from carbench.core.params import Model, lookup, parse, read_yaml

log = logging.getLogger("carbench")


class OutputRecorder(Protocol):
    """What the stage needs of its job in the study; see :mod:`carbench.engines.job_run`."""

    @property
    def scratch(self) -> Path: ...  # noqa: D102

    def store_outputs(self, draft: Path, folder: Path) -> None: ...  # noqa: D102


class Stage:
    """One run of one stage: what the command line said, and where outputs go."""

    def __init__(self, args: argparse.Namespace, job: OutputRecorder | None) -> None:
        self.args = args
        self._job = job

    @property
    def scratch(self) -> Path | None:
        """Where a long job may keep what it needs to go on after a kill; None: nowhere.

        What lies there is from this job, made from the same; it goes when the job is done.
        """
        return self._job.scratch if self._job else None

    def params(self, key: str, model: type[Model]) -> Model:
        """Read the section at ``key``; ``{backbone}`` in it stands for the argument."""
        return parse(self.value(key), model, self._key(key), self.args.params)

    def value(self, key: str) -> Any:
        """Read the plain value at ``key``; ``{backbone}`` in it stands for the argument.

        The names of mappings come sorted: neither engine takes their order in params.yaml for a
        change, so that no result may depend on it. The order of lists is as it is written.
        """
        return _sorted(lookup(read_yaml(self.args.params), self._key(key), self.args.params))

    def _key(self, template: str) -> str:
        return template.format(**vars(self.args))

    @contextmanager
    def outputs(self, folder: Path) -> Iterator[Path]:
        """Yield an empty folder; what was made in it moves to ``folder`` only if all went well.

        Each file or folder replaces its namesake by one rename, so that an output is complete or
        absent whatever happens. Leftovers of killed runs are removed. Of a job of the study, what
        was made is recorded and kept before it moves.
        """
        with staging_folder(folder) as draft:
            yield draft
            if self._job:
                self._job.store_outputs(draft, folder)
            for made in sorted(draft.iterdir()):
                move_into_place(made, folder / made.name)

    @contextmanager
    def output(self, path: Path) -> Iterator[Path]:
        """Yield a path to write one file to; it becomes ``path`` only if all went well."""
        with self.outputs(path.parent) as draft:
            yield draft / path.name


def _sorted(value: Any) -> Any:
    """Return parameters with the names of all mappings in them sorted as texts."""
    if isinstance(value, dict):
        return {name: _sorted(value[name]) for name in sorted(value, key=str)}
    if isinstance(value, list):
        return [_sorted(each) for each in value]
    return value


def stage_parser(description: str | None) -> argparse.ArgumentParser:
    """Return a parser with the options that every stage has."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--params", type=Path, default=Path("params.yaml"), help="the study (default: %(default)s)"
    )
    parser.add_argument("--log", type=Path, help="also write what is reported to this file")
    parser.add_argument(
        "--again", action="store_true", help="make it again, even if it was made from the same"
    )
    return parser


def run_stage(parser: argparse.ArgumentParser, work: Callable[[Stage], None]) -> NoReturn:
    """Run a stage's work and end the process: 0 done, 1 refused, 130 interrupted.

    Only a bug in carbench prints a traceback.
    """
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, _terminate)
    status = _status(args, work)
    # A script that Python itself runs has no caller; tests, profilers and debuggers are callers,
    # which have things to do after it.
    if sys._getframe(1).f_back is None:
        _leave(status)
    sys.exit(status)


def _status(args: argparse.Namespace, work: Callable[[Stage], None]) -> int:
    """Do the work and return the exit status; what went wrong is logged."""
    try:
        _start_logging(args)
        # Loaded by name on purpose: what can only refuse, record or bring back is not code of this
        # stage's result, and must not make every stage rerun when it is edited.
        importlib.import_module("carbench.params.study").check(args.params)
        start_job_run = importlib.import_module("carbench.engines.job_run").start_job_run
        with start_job_run([word for word in sys.argv if word != "--again"]) as job:
            if not (job and job.restore_outputs(args.again)):
                work(Stage(args, job))
    except CarbenchError as error:
        log.error("%s", error)
        return 1
    except KeyboardInterrupt:
        log.error("interrupted; no output was written")
        return 130
    except Exception as error:
        explain = importlib.import_module("carbench.core.system_errors").explain_system_error
        sentence = explain(error, [getattr(args, "output", Path()), Path()])
        if sentence is None:
            log.exception("this is a bug in carbench")
            return 70
        log.error("%s", sentence)
        return 1
    return 0


def _leave(status: int) -> None:
    """End the process without taking apart what is loaded, which takes torch half a second.

    What Python does at an exit is done: functions registered with atexit run (log files, temporary
    folders, pools of multiprocessing, coverage) and streams are flushed. Returns if that fails, or
    if threads still work; an ordinary exit waits for them and tells what is wrong.
    """
    if any(
        not each.daemon for each in threading.enumerate() if each is not threading.main_thread()
    ):
        return
    atexit._run_exitfuncs()
    try:
        for stream in filter(None, (sys.stdout, sys.stderr)):
            stream.flush()
    except (OSError, ValueError):
        return
    os._exit(status)


def _terminate(signum: int, frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


def _start_logging(args: argparse.Namespace) -> None:
    """Log to stderr, and to ``--log`` if given; lines open with the job they belong to."""
    job = [Path(sys.argv[0]).stem]
    job += [
        str(getattr(args, name))
        for name in ("backbone", "pool", "fraction", "seed", "figure")
        if name in args
    ]
    handlers: list[logging.Handler] = [logging.StreamHandler(sys.stderr)]
    logging.raiseExceptions = False  # a log file that cannot be written is no news of its own
    if args.log:
        args.log.parent.mkdir(parents=True, exist_ok=True)
        handlers.append(logging.FileHandler(args.log, mode="w", encoding="utf-8"))
    logging.basicConfig(format=f"{' '.join(job)}: %(message)s", handlers=handlers)
    log.setLevel(logging.INFO)
    logging.captureWarnings(True)
