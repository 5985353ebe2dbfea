"""Snakemake from the inside: its options, its records, its plan. Nothing here decides anything."""

from __future__ import annotations

import io
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zlib import crc32

from carbench.engines.dvc_yaml import JobSpec, one_line
from carbench.engines.engine_versions import checked_internals, incompatible_version, inside

RECORD_FORMAT = 6
# Begins what is written among the parameters of a record to make it differ from all jobs.
REASON = "carbench: "


@dataclass(frozen=True)
class SnakemakeOptions:
    """What a command line of Snakemake, with the profiles that it finds, asks for.

    Attributes:
        read_only: whether it only looks, and neither runs nor removes anything.
        forced: rules and files to be made again; {"all"}: every one.
        triggers: names of the rerun triggers; None: not known.
    """

    read_only: bool
    forced: frozenset[str]
    triggers: frozenset[str] | None


# Options, as Snakemake's parser names them, that look and change nothing.
LOOKING = (
    *("dryrun", "lint", "list_rules", "list_target_rules", "list_changes", "list_input_changes"),
    *("list_params_changes", "list_untracked", "list_conda_envs", "print_compilation"),
    *("summary", "detailed_summary", "dag", "rulegraph", "filegraph", "d3dag"),
    *("containerize", "archive", "export_cwl", "generate_unit_tests"),
)


def snakemake_options(words: list[str] | None) -> SnakemakeOptions:
    """Return what a command line of Snakemake asks for.

    Args:
        words: the command line without the program; None: another program uses Snakemake's
            interface, which only plans.
    """
    if words is None:
        return SnakemakeOptions(read_only=True, forced=frozenset(), triggers=None)
    with checked_internals("snakemake"):
        from snakemake.cli import parse_args

        with redirect_stderr(io.StringIO()):  # it would name the profile a second time
            _, asked = parse_args(words)
        forced = {"all"} if asked.forceall else {*asked.forcerun}
        if asked.force:
            forced |= {*asked.targets}
        reports = asked.report is not None and not asked.report_after_run
        return SnakemakeOptions(
            read_only=reports or any(getattr(asked, name) for name in LOOKING),
            forced=frozenset(map(str, forced)),
            triggers=frozenset(each.item_to_choice() for each in asked.rerun_triggers),
        )


class SnakemakeMetadata:
    """Snakemake's records of how its outputs were made: ``.snakemake/metadata``.

    Snakemake compares a record's ``params``, ``input`` and ``code`` with the job's, where the
    record has any: a record without them is never outdated, one with impossible params always.
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
        """Return what changes when a record is written; None: the output has none."""
        try:
            found = Path(self._files._record_path(self._files._metadata_path, output)).stat()
        except FileNotFoundError:
            return None
        return [found.st_mtime_ns, found.st_size]

    def times(self, output: str) -> tuple[float, float] | None:
        """Return when the job began and ended that made an output, in seconds since 1970."""
        with checked_internals("snakemake"):
            record = self._read(output)
            if record is None or None in (record.starttime, record.endtime):
                return None
            return record.starttime, record.endtime

    def mark_up_to_date(self, output: str, job: JobSpec, times: tuple[float, float]) -> None:
        """Let Snakemake take an output for current.

        Of a rule that is not the study's own, Snakemake keeps to itself what changes it: what was
        recorded of its last run with this command stays.

        Args:
            output: its path.
            job: that made it.
            times: when that began and ended, in seconds since 1970; equal if not known. What is
                known replaces what the record says, which may be how long a copy took.
        """
        with checked_internals("snakemake"):
            record = self._read(output)
            before = record and record.shellcmd
            if record is None or (before and one_line(before) != one_line(job.command)):
                record = self._new(job, record)
            if times[0] < times[1] or None in (record.starttime, record.endtime):
                record.starttime, record.endtime = times
            if job.records_itself:
                record.params = record.input = record.code = record.software_stack_hash = None
                record.input_checksums = {}
            else:
                record.params = _without_reasons(record.params) or None
            self._write(output, record, current=True)

    def mark_stale(self, output: str, job: JobSpec, reason: str) -> None:
        """Let Snakemake take an output for outdated, and say ``reason`` where it says why."""
        with checked_internals("snakemake"):
            record = self._read(output) or self._new(job, None)
            kept = [] if job.records_itself else _without_reasons(record.params)
            record.params = [*kept, f"{REASON}{reason}"]
            self._write(output, record, current=False)

    @staticmethod
    def _new(job: JobSpec, before: Any) -> Any:
        """A record of a job that Snakemake has not run; its report groups outputs by the hash.

        ``before`` is the record of an earlier command, whose times may be those of this one.
        """
        from snakemake.persistence import MetadataRecord

        record = MetadataRecord(
            rule=job.stage, shellcmd=job.command, job_hash=crc32(job.name.encode())
        )
        if before is not None:
            record.starttime, record.endtime = before.starttime, before.endtime
        return record

    def _read(self, output: str) -> Any:
        """The record of an output; None where there is none that can be read."""
        try:
            return self._files._read_record(output)
        except ValueError:
            return None

    def _write(self, output: str, record: Any, current: bool) -> None:
        record.incomplete = False
        record.record_format_version = RECORD_FORMAT
        self._files._write_record(output, record)
        self._files._clear_cache()
        self.verify(self._files, output, current)

    @staticmethod
    def verify(persistence: Any, output: str, current: bool) -> None:
        """Hold what Snakemake reads of an output against what was written.

        Args:
            persistence: Snakemake's.
            output: that has a record.
            current: whether the record says that the output is current.

        Raises:
            CarbenchError: Snakemake reads something else.
        """
        with checked_internals("snakemake"):
            record = persistence._read_record(output)
            reads = None if record is None else (record.record_format_version, record.params)
            if reads is None or reads[0] != RECORD_FORMAT or _is_refused(reads[1]) == current:
                raise incompatible_version(
                    "snakemake", f"it reads {reads} as the record of {output}"
                )

    def clear_incomplete(self, output: str) -> None:
        """Take away the mark of a job that was killed while it made an output."""
        if self._incomplete:
            with checked_internals("snakemake"):
                self._files._unmark_incomplete(output)

    def unlock(self) -> None:
        """Remove the locks of a killed run; the caller knows that no other run is at work."""
        shutil.rmtree(self._files._lockdir, ignore_errors=True)


def _is_refused(params: list[Any] | None) -> bool:
    return len(_without_reasons(params)) < len(params or [])


def _without_reasons(params: list[Any] | None) -> list[Any]:
    """What a record says of parameters by Snakemake's own word."""
    return [each for each in params or [] if not str(each).startswith(REASON)]


@contextmanager
def snakemake_dag(root: Path) -> Iterator[Any]:
    """Yield the DAG that `snakemake -n` in ``root`` plans, with the profile that it finds."""
    from snakemake.api import SnakemakeApi
    from snakemake.cli import parse_args
    from snakemake.settings.enums import Quietness
    from snakemake.settings.types import DAGSettings, OutputSettings, ResourceSettings

    with inside(root), SnakemakeApi(OutputSettings(quiet={Quietness.ALL})) as api:
        # As on the command line, with the profile that Snakemake finds by itself.
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
