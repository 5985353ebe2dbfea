"""Shared by all stage scripts: arguments, parameters, logging, atomic outputs, error handling.

A script defines its arguments and calls :func:`run_stage` with the function that does the work:

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
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn, Protocol

from carbench.core.atomic import move_into_place, staging_folder
from carbench.core.errors import CarbenchError
from carbench.core.job_log import JobLog
from carbench.core.params import Model, lookup, parse, read_yaml

log = logging.getLogger("carbench")


class OutputRecorder(Protocol):
    """The interface of :class:`carbench.engines.job_run.JobRun` that a stage uses."""

    @property
    def name(self) -> str: ...  # noqa: D102

    @property
    def scratch(self) -> Path: ...  # noqa: D102

    @property
    def live(self) -> Path: ...  # noqa: D102

    @property
    def profile(self) -> Path: ...  # noqa: D102

    @property
    def attempts_log(self) -> Path: ...  # noqa: D102

    def store_outputs(self, staging: Path, folder: Path) -> None: ...  # noqa: D102


class Stage:
    """One run of a stage: its command line and its outputs."""

    def __init__(self, args: argparse.Namespace, job: OutputRecorder | None) -> None:
        self.args = args
        self._job = job

    @property
    def scratch(self) -> Path | None:
        """Folder for checkpoints from which a killed job resumes; None outside of a study.

        It belongs to this job with these inputs and is removed when the job has finished.
        """
        return self._job.scratch if self._job else None

    @property
    def live(self) -> Path | None:
        """Folder for files to follow this job with; None outside of a study.

        It belongs to this job with these inputs and is kept. No stage may read what is in it.
        """
        return self._job.live if self._job else None

    @property
    def profile(self) -> Path | None:
        """Folder for a profile of this job, which is kept; None outside of a study.

        A profile is a measurement. No stage may read it.
        """
        return self._job.profile if self._job else None

    def params(self, key: str, model: type[Model]) -> Model:
        """Read the section at ``key``, in which ``{backbone}`` is replaced by the argument."""
        return parse(self.value(key), model, self._key(key), self.args.params)

    def value(self, key: str) -> Any:
        """Read the value at ``key``, in which ``{backbone}`` is replaced by the argument.

        Mappings are sorted by name: neither engine considers a different order in params.yaml a
        change, so results must not depend on it. Lists keep their order.
        """
        return _sorted(lookup(read_yaml(self.args.params), self._key(key), self.args.params))

    def _key(self, template: str) -> str:
        return template.format(**vars(self.args))

    @contextmanager
    def outputs(self, folder: Path) -> Iterator[Path]:
        """Yield an empty folder whose content is moved to ``folder`` unless an exception is raised.

        Each file or folder replaces its predecessor in a single rename, so that an output is always
        complete or absent. Before that, the outputs of a job of the study are recorded and stored.
        """
        with staging_folder(folder, self._job.name if self._job else "") as staging:
            yield staging
            if self._job:
                self._job.store_outputs(staging, folder)
            for path in sorted(staging.iterdir()):
                move_into_place(path, folder / path.name)

    @contextmanager
    def output(self, path: Path) -> Iterator[Path]:
        """Yield a temporary path for one file; see :meth:`outputs`."""
        with self.outputs(path.parent) as staging:
            yield staging / path.name


def _sorted(value: Any) -> Any:
    """Return parameters with all mappings sorted by name."""
    if isinstance(value, dict):
        return {name: _sorted(value[name]) for name in sorted(value, key=str)}
    if isinstance(value, list):
        return [_sorted(item) for item in value]
    return value


def stage_parser(description: str | None) -> argparse.ArgumentParser:
    """Return a parser with the options that every stage has."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--params",
        type=Path,
        default=Path("params.yaml"),
        help="parameter file (default: %(default)s)",
    )
    parser.add_argument("--log", type=Path, help="also write the log to this file")
    parser.add_argument(
        "--again",
        action="store_true",
        help="run even if outputs for the same inputs are cached",
    )
    return parser


def run_stage(parser: argparse.ArgumentParser, work: Callable[[Stage], None]) -> NoReturn:
    """Run a stage and exit: 0 for success, 1 for an error with a message, 130 if interrupted.

    Only a bug in carbench prints a traceback, and exits with 70.
    """
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, _terminate)
    status = _run(args, work, JobLog(_job_name(args), args.log))
    # A script run by Python itself has no calling frame; tests, profilers and debuggers have one,
    # and continue after the script.
    if sys._getframe(1).f_back is None:
        _exit_fast(status)
    sys.exit(status)


def _job_name(args: argparse.Namespace) -> str:
    """Return the stage and the arguments that tell its jobs apart, as in ``train resnet 0``."""
    names = ("backbone", "pool", "fraction", "seed", "figure")
    return " ".join(
        [Path(sys.argv[0]).stem, *(str(getattr(args, name)) for name in names if name in args)]
    )


def _run(args: argparse.Namespace, work: Callable[[Stage], None], job_log: JobLog) -> int:
    """Do the work and return the exit status; errors are logged."""
    try:
        return _run_job(args, work, job_log)
    finally:
        with suppress(OSError):  # has been reported
            job_log.open()  # unless it is open


def _run_job(args: argparse.Namespace, work: Callable[[Stage], None], job_log: JobLog) -> int:
    try:
        # Imported by name, so that stages do not depend on this code: it only validates, records
        # and restores. As it does not affect results, editing it must not make stages stale.
        importlib.import_module("carbench.params.study").check(args.params)
        start_job_run = importlib.import_module("carbench.engines.job_run").start_job_run
        argv = [word for word in sys.argv if word != "--again"]
        with start_job_run(argv, on_wait=job_log.follow) as job:
            job_log.open(job.attempts_log if job else None)
            if not (job and job.restore_outputs(args.again)):
                work(Stage(args, job))
    except CarbenchError as error:
        log.error("%s", error)
        return 1
    except KeyboardInterrupt:
        log.error("interrupted; no output was written")
        return 130
    except Exception as error:
        message = _explain(error, args)
        if message is None:
            log.exception("this is a bug in carbench")
            return 70
        log.error("%s", message)
        return 1
    return 0


def _explain(error: Exception, args: argparse.Namespace) -> str | None:
    """Return a message for an error that is not a bug in carbench; None if it seems to be one."""
    if isinstance(error, ModuleNotFoundError):
        extras = importlib.import_module("carbench.core.extras")
        missing: CarbenchError | None = extras.explain_missing_module(error, sys.argv[0])
        return str(missing) if missing else None
    system_errors = importlib.import_module("carbench.core.system_errors")
    folders = [getattr(args, "output", Path()), Path()]
    message: str | None = system_errors.explain_system_error(error, folders)
    return message


def _exit_fast(status: int) -> None:
    """Exit without deallocating modules, which takes half a second with torch.

    Functions registered with atexit run (log files, temporary folders, multiprocessing pools,
    coverage) and streams are flushed. Returns if that fails or if threads are running; an ordinary
    exit waits for the threads and reports errors.
    """
    if any(
        not thread.daemon
        for thread in threading.enumerate()
        if thread is not threading.main_thread()
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
