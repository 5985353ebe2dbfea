"""The running service, seen from the outside: telling it to reload, and asking what it serves."""

from __future__ import annotations

import json
import subprocess
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from http.client import HTTPException
from typing import Any

from carbench.core.errors import CarbenchError

# Workers switch one after the other: only this many answers in a row, each on a connection of its
# own, show that all of them have.
ANSWERS = 10
INTERVAL_SECONDS = 0.2
REQUEST_SECONDS = 5.0


@dataclass(frozen=True)
class RunningService:
    """How to reach the service.

    Attributes:
        reload: shell command that makes it load the current model; None if there is none.
        url: its address, without a slash at the end; None: it is not asked what it serves.
        api_key: the key that it requires, if any.
        timeout: maximum seconds for the command, and then for the switch to the new model.
    """

    reload: str | None
    url: str | None
    api_key: str | None
    timeout: float

    def require_access(self) -> None:
        """Check that the service, if it runs, tells what it serves.

        Raises:
            CarbenchError: the URL or the API key is wrong.
        """
        if self.url is not None:
            self._served(self.url)

    def load(self, metadata: Any) -> None:
        """Make the service load the current model and wait until all its workers serve it.

        Args:
            metadata: the content of the model's model.json. Two exports of one training run have
                the same version even if their thresholds differ, so that versions are not enough.

        Raises:
            CarbenchError: the command failed, or the service does not serve the model in time.
        """
        if self.reload is not None:
            self._run(self.reload)
        if self.url is None:
            return
        deadline = time.monotonic() + self.timeout
        agreed = 0
        while agreed < ANSWERS:
            served = self._served(self.url)
            agreed = agreed + 1 if served == metadata else 0
            if agreed == 0 and time.monotonic() > deadline:
                raise CarbenchError(
                    self.url,
                    found=_describe(served, metadata),
                    expected=f"{metadata['version']} within {self.timeout:g} s",
                    fix="the output of the service says why it did not load the model",
                )
            time.sleep(INTERVAL_SECONDS)

    def _run(self, command: str) -> None:
        try:
            done = subprocess.run(
                command,
                shell=True,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=self.timeout,
            )
        except subprocess.TimeoutExpired:
            found = f"a command that was still running after {self.timeout:g} s"
        else:
            if done.returncode == 0:
                return
            last = (done.stderr.strip() or done.stdout.strip()).rpartition("\n")[2]
            found = f"exit status {done.returncode} ({last or 'no output'})"
        raise CarbenchError(
            command, found=found, expected="exit status 0", fix="correct --reload, and repeat"
        )

    def _served(self, url: str) -> Any:
        """Return the content of model.json that a worker serves; None if there is no answer.

        Raises:
            CarbenchError: something answers, but not with a model.
        """
        headers = {"X-API-Key": self.api_key} if self.api_key else {}
        expected, fix = "the address of a service", "correct --url"
        try:
            request = urllib.request.Request(f"{url}/v1/model", headers=headers)
            with urllib.request.urlopen(request, timeout=REQUEST_SECONDS) as response:
                served = json.load(response)
            if isinstance(served, dict) and "version" in served:
                return served
            found = "an answer without a version"
        except urllib.error.HTTPError as error:
            if error.code >= 500:
                return None
            found = f"status {error.code} for /v1/model"
            if error.code == 401:
                expected, fix = "its API key", "pass the key in --api-key-file"
        except OSError:
            return None
        except (ValueError, HTTPException) as error:  # not a URL, not JSON, not HTTP
            found = f"no answer of a service ({error})"
        raise CarbenchError(url, found=found, expected=expected, fix=fix)


def _describe(served: Any, metadata: Any) -> str:
    if served is None:
        return "no answer"
    if served["version"] == metadata["version"]:
        return f"another export of {served['version']}"
    return str(served["version"])
