"""Access to internals of Snakemake: its options, metadata and DAG. No decisions are made here."""

from __future__ import annotations

import io
import os
import shutil
from collections.abc import Iterator
from contextlib import chdir, contextmanager, redirect_stderr
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zlib import crc32

from carbench.engines.dvc_yaml import JobSpec, one_line
from carbench.engines.engine_versions import checked_internals, incompatible_version

RECORD_FORMAT = 6
# Prefix of the extra parameter that makes a metadata record differ from the job.
STALE_PREFIX = "carbench: "


@dataclass(frozen=True)
class SnakemakeOptions:
    """Options of Snakemake's command line and the profiles that apply.

    Attributes:
        read_only: whether the run only shows something, and neither runs nor removes anything.
        forced: rules and files to be made again; {"all"} for all.
        triggers: names of the rerun triggers; None if unknown.
    """

    read_only: bool
    forced: frozenset[str]
    triggers: frozenset[str] | None


# Options, as Snakemake's parser names them, with which nothing is run or changed.
READ_ONLY_OPTIONS = (
    *("dryrun", "lint", "list_rules", "list_target_rules", "list_changes", "list_input_changes"),
    *("list_params_changes", "list_untracked", "list_conda_envs", "print_compilation"),
    *("summary", "detailed_summary", "dag", "rulegraph", "filegraph", "d3dag"),
    *("containerize", "archive", "export_cwl", "generate_unit_tests"),
)


def snakemake_options(arguments: list[str] | None) -> SnakemakeOptions:
    """Parse a command line of Snakemake.

    Args:
        arguments: the command line without the program; None if another program uses Snakemake's
            API, which only plans.
    """
    if arguments is None:
        return SnakemakeOptions(read_only=True, forced=frozenset(), triggers=None)
    with checked_internals("snakemake"):
        from snakemake.cli import parse_args

        with redirect_stderr(io.StringIO()):  # it would print the name of the profile again
            _, options = parse_args(arguments)
        forced = {"all"} if options.forceall else {*options.forcerun}
        if options.force:
            forced |= {*options.targets}
        only_reports = options.report is not None and not options.report_after_run
        return SnakemakeOptions(
            read_only=only_reports or any(getattr(options, name) for name in READ_ONLY_OPTIONS),
            forced=frozenset(map(str, forced)),
            triggers=frozenset(each.item_to_choice() for each in options.rerun_triggers),
        )


class SnakemakeMetadata:
    """Snakemake's records of how its outputs were made: ``.snakemake/metadata``.

    Snakemake compares a record's ``params``, ``input`` and ``code`` with the job's, if the record
    has them: a record without them is never outdated, one with params that no job has always is.
    Each record is read back after it is written.
    """

    def __init__(self, root: Path) -> None:
        with checked_internals("snakemake"):
            from snakemake.persistence import RECORD_FORMAT_VERSION
            from snakemake.persistence.file import FilePersistence

            if RECORD_FORMAT_VERSION != RECORD_FORMAT:
                raise ValueError(f"records of format {RECORD_FORMAT_VERSION}, not {RECORD_FORMAT}")
            self._files = FilePersistence(path=root.absolute() / ".snakemake")
            self._incomplete = any(names for _, _, names in os.walk(self._files._incomplete_path))

    def stamp(self, output: str) -> list[int] | None:
        """Return values that change when a record is written; None if the output has none."""
        try:
            stat = Path(self._files._record_path(self._files._metadata_path, output)).stat()
        except FileNotFoundError:
            return None
        return [stat.st_mtime_ns, stat.st_size]

    def times(self, output: str) -> tuple[float, float] | None:
        """Return start and end of the job that made an output, in seconds since 1970."""
        with checked_internals("snakemake"):
            record = self._read(output)
            if record is None or None in (record.starttime, record.endtime):
                return None
            return record.starttime, record.endtime

    def mark_up_to_date(self, output: str, job: JobSpec, times: tuple[float, float]) -> None:
        """Write a record with which Snakemake counts an output as up to date.

        For a rule that does not run a carbench script, what was recorded of its last run with this
        command is kept, so that Snakemake itself detects changes.

        Args:
            output: the path of the output.
            job: the job that made it.
            times: start and end in seconds since 1970, equal if unknown. Known times replace the
                recorded ones, which may be those of a restored copy.
        """
        with checked_internals("snakemake"):
            record = self._read(output)
            command = record and record.shellcmd
            if record is None or (command and one_line(command) != one_line(job.command)):
                record = self._new(job, record)
            if times[0] < times[1] or None in (record.starttime, record.endtime):
                record.starttime, record.endtime = times
            if job.records_itself:
                record.params = record.input = record.code = record.software_stack_hash = None
                record.input_checksums = {}
            else:
                record.params = _without_reasons(record.params) or None
            self._write(output, record, up_to_date=True)

    def mark_stale(self, output: str, job: JobSpec, reason: str) -> None:
        """Write a record with which Snakemake counts an output as outdated and shows ``reason``."""
        with checked_internals("snakemake"):
            record = self._read(output) or self._new(job, None)
            kept = [] if job.records_itself else _without_reasons(record.params)
            record.params = [*kept, f"{STALE_PREFIX}{reason}"]
            self._write(output, record, up_to_date=False)

    def clear_incomplete(self, output: str) -> None:
        """Remove the mark that Snakemake leaves if a job is killed while it makes an output."""
        if self._incomplete:
            with checked_internals("snakemake"):
                self._files._unmark_incomplete(output)

    def unlock(self) -> None:
        """Remove the locks of a killed run; the caller has checked that no other run is active."""
        shutil.rmtree(self._files._lockdir, ignore_errors=True)

    @staticmethod
    def verify(persistence: Any, output: str, up_to_date: bool) -> None:
        """Check that Snakemake reads the record of an output as it was written.

        Args:
            persistence: Snakemake's persistence object.
            output: an output with a record.
            up_to_date: whether it was marked as up to date.

        Raises:
            CarbenchError: Snakemake reads something else.
        """
        with checked_internals("snakemake"):
            record = persistence._read_record(output)
            actual = None if record is None else (record.record_format_version, record.params)
            if actual is None or actual[0] != RECORD_FORMAT or _is_stale(actual[1]) == up_to_date:
                symptom = f"it reads {actual} as the record of {output}"
                raise incompatible_version("snakemake", symptom)

    @staticmethod
    def _new(job: JobSpec, previous: Any) -> Any:
        """Return a record of a job that Snakemake has not run.

        The job's hash groups outputs in Snakemake's report.

        Args:
            job: the job.
            previous: the record of an earlier command, whose times are kept; None if there is none.
        """
        from snakemake.persistence import MetadataRecord

        record = MetadataRecord(
            rule=job.stage, shellcmd=job.command, job_hash=crc32(job.name.encode())
        )
        if previous is not None:
            record.starttime, record.endtime = previous.starttime, previous.endtime
        return record

    def _read(self, output: str) -> Any:
        """Return the record of an output; None if there is no readable one."""
        try:
            return self._files._read_record(output)
        except ValueError:
            return None

    def _write(self, output: str, record: Any, up_to_date: bool) -> None:
        record.incomplete = False
        record.record_format_version = RECORD_FORMAT
        self._files._write_record(output, record)
        self._files._clear_cache()
        self.verify(self._files, output, up_to_date)


def _is_stale(params: list[Any] | None) -> bool:
    return len(_without_reasons(params)) < len(params or [])


def _without_reasons(params: list[Any] | None) -> list[Any]:
    """Return the parameters that Snakemake itself has recorded."""
    return [param for param in params or [] if not str(param).startswith(STALE_PREFIX)]


@dataclass(frozen=True)
class FailedJob:
    """A job that failed in all attempts.

    Attributes:
        rule: its rule, which has the name of the stage.
        name: the rule and its wildcards, as in ``train resnet 0``.
        log: the path of its log; None if it has none.
    """

    rule: str
    name: str
    log: str | None


def failed_jobs(workflow: Any) -> list[FailedJob]:
    """Return the failed jobs of a run, by name.

    Args:
        workflow: Snakemake's workflow object after the run.
    """
    with checked_internals("snakemake"):
        jobs = [
            FailedJob(
                rule=job.rule.name,
                name=" ".join([job.rule.name, *map(str, job.wildcards)]),
                log=next(map(str, job.log), None),
            )
            for failed in workflow.scheduler.failed
            for job in (failed.jobs if failed.is_group() else [failed])
        ]
        return sorted(jobs, key=lambda job: job.name)


@contextmanager
def snakemake_dag(root: Path) -> Iterator[Any]:
    """Yield the DAG that `snakemake -n` in ``root`` plans, with the default profile."""
    from snakemake.api import SnakemakeApi
    from snakemake.cli import parse_args
    from snakemake.settings.enums import Quietness
    from snakemake.settings.types import DAGSettings, OutputSettings, ResourceSettings

    with chdir(root), SnakemakeApi(OutputSettings(quiet={Quietness.ALL})) as api:
        _, profile = parse_args(["--dry-run"])
        workflow_api = api.workflow(
            resource_settings=ResourceSettings(cores=os.cpu_count()),
            snakefile=root / "Snakefile",
            workdir=root,
        )
        dag_api = workflow_api.dag(
            DAGSettings(
                rerun_triggers=profile.rerun_triggers,
                max_checksum_file_size=profile.max_checksum_file_size,
                force_incomplete=True,
            )
        )
        workflow = dag_api.workflow_api._workflow
        workflow._prepare_dag(forceall=False, ignore_incomplete=False, lock_warn_only=True)
        workflow._build_dag()
        yield workflow.dag
