"""Sends a study to a tracker, once or for as long as it runs; nothing is sent twice.

Only files of the study are read. The jobs know nothing of it, so that whatever happens to a tracker
can neither stop them nor change their results.
"""

from __future__ import annotations

import hashlib
import logging
import subprocess
import time
from contextlib import suppress
from pathlib import Path

from carbench.core.errors import CarbenchError
from carbench.engines.sync import open_workspace
from carbench.tracking.run_contents import RunContents, run_contents
from carbench.tracking.sent_runs import FOLDER, SentRun, SentRuns
from carbench.tracking.trackers import Tracker, TrackerRun

log = logging.getLogger("carbench")

MAX_REASON = 300


class TrackerError(CarbenchError):
    """The tracker cannot be reached or written to."""


class Follower:
    """Sends what is new in a study.

    Args:
        root: the study.
        tracker: where to.
        models: whether weights and the exported model are sent.
    """

    def __init__(self, root: Path, tracker: Tracker, models: bool = True) -> None:
        self._root = root
        self._tracker = tracker
        self._models = models
        self._sent = SentRuns(root / FOLDER / destination_name(tracker))
        self._open: dict[tuple[str, str], TrackerRun] = {}

    def send(self) -> bool:
        """Send what is new.

        Returns:
            Whether the study is finished: all its jobs are up to date.

        Raises:
            TrackerError: the tracker cannot be reached; what is not sent is sent next time.
        """
        workspace = open_workspace(self._root)
        statuses = [workspace.job_status(job) for job in workspace.jobs.values()]
        runs = list(run_contents(workspace, _commit(self._root), self._models))
        workspace.save()
        for contents in runs:
            try:
                self._send_run(contents)
            except self._tracker.errors as error:
                self.close()
                raise TrackerError(
                    f"{self._tracker.title} ({self._tracker.address})",
                    found=f"an error with {contents.name}: {_reason(error)}",
                    expected="a tracker that takes what is sent",
                    fix="start the tracker or correct its address, and run the command again; it "
                    "continues; if the run was deleted there, remove "
                    f"{self._sent.folder / contents.name} to send it anew",
                ) from None
        return all(status.up_to_date for status in statuses)

    def close(self) -> None:
        """Close the runs that are open; they can be continued."""
        for run in self._open.values():
            with suppress(*self._tracker.errors):
                run.close(complete=False)
        self._open.clear()

    def _send_run(self, contents: RunContents) -> None:
        sent = self._sent.read(contents.name, contents.key)
        parts = {*contents.params, *contents.summaries, *contents.artifacts}
        is_new = len(contents.epochs) > sent.epochs or not parts <= set(sent.parts)
        if not is_new and (sent.complete or not contents.complete):
            return
        run = self._run(contents, sent)
        for name, params in contents.params.items():
            if name not in sent.parts:
                run.log_params(params)
                self._note(contents, sent, part=name)
        sent.epochs = max(sent.epochs, run.last_step)
        for epoch in contents.epochs[sent.epochs :]:
            run.log_metrics(epoch.metrics, epoch.epoch, epoch.time)
            self._note(contents, sent, epochs=epoch.epoch)
        for name, summary in contents.summaries.items():
            if name not in sent.parts:
                run.log_summary(summary.metrics, summary.time)
                self._note(contents, sent, part=name)
        for name, path in contents.artifacts.items():
            if name not in sent.parts:
                run.log_artifact(name, path)
                self._note(contents, sent, part=name)
        if contents.complete:
            del self._open[contents.name, contents.key]
            run.close(complete=True)
            sent.complete = True
            self._sent.save(contents.name, contents.key, sent)
            log.info("%s: %s is complete", self._tracker.title, contents.name)

    def _run(self, contents: RunContents, sent: SentRun) -> TrackerRun:
        """Return the open run, or open it."""
        key = contents.name, contents.key
        if key not in self._open:
            run = self._tracker.open_run(*key, contents.tags, sent.run or None)
            self._open[key] = run
            log.info(
                "%s: %s %s",
                self._tracker.title,
                contents.name,
                f"continues after epoch {sent.epochs}" if sent.epochs else "started",
            )
            sent.run = run.id
            self._sent.save(*key, sent)
        return self._open[key]

    def _note(self, contents: RunContents, sent: SentRun, part: str = "", epochs: int = 0) -> None:
        if part:
            sent.parts.append(part)
        sent.epochs = epochs or sent.epochs
        self._sent.save(contents.name, contents.key, sent)


def follow(follower: Follower, interval: float) -> None:
    """Send what is new every ``interval`` seconds until the study is finished.

    A tracker that cannot be reached, and parameters that are being edited, are reported once and
    tried again.
    """
    reported = ""
    while True:
        try:
            if follower.send():
                return
            reported = ""
        except CarbenchError as error:
            if str(error) != reported:
                log.warning("%s", error)
                log.warning("trying again every %g s; training is not affected", interval)
            reported = str(error)
        time.sleep(interval)


def destination_name(tracker: Tracker) -> str:
    """Return a name for a destination that no other has, to be used for files."""
    digest = hashlib.sha256(tracker.address.encode()).hexdigest()[:8]
    return f"{tracker.title.replace('&', 'and')}-{digest}".lower()


def _commit(root: Path) -> str:
    done = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=root, capture_output=True, text=True, check=False
    )
    return done.stdout.strip() if done.returncode == 0 else ""


def _reason(error: BaseException) -> str:
    """Return what went wrong in a line: of a failed connection, what the system says about it."""
    cause: BaseException | None = error
    while cause:
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror.lower()
        cause = cause.__cause__ or cause.__context__
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= MAX_REASON else f"{text[:MAX_REASON]}..."
