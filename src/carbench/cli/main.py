"""carbench: what goes beyond the two engines' own commands.

init starts a study; sync and why see both engines' results as one; verify distrusts the clock; exp
save refuses what is not proven; audit review lets a person judge doubtful pairs; compare says
whether two experiments really differ; pin pins weights of the hub, weights gets some without the
hub, and shortlist writes the screened candidates into params.yaml; serve answers images with the
exported model, and drift says whether they have changed.
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
    "sync": "tell each engine what the other has made",
    "why": "say why a job would run again",
    "verify": "hold results against what the jobs have written",
    "audit": "lay doubtful pairs out for a person to judge",
    "exp": "save proven results as an experiment",
    "compare": "say whether experiments really differ",
    "pin": "pin weights of the hub",
    "weights": "get trained weights without the hub",
    "shortlist": "write the screened shortlist into params.yaml",
    "serve": "serve the exported model",
    "drift": "say whether new images differ from those the model knows",
}


def main() -> NoReturn:
    """Run a subcommand: 0 done, 1 refused or not as it should be, 130 interrupted."""
    _run_this_clone()
    logging.basicConfig(format="%(message)s", stream=sys.stderr)
    logging.getLogger("carbench").setLevel(logging.INFO)
    parser = _Parser(
        prog="carbench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--version", action="version", version=f"carbench {version('carbench')}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    chosen = next((word for word in sys.argv[1:] if word in COMMANDS), None)
    for name, summary in COMMANDS.items():
        command = commands.add_parser(name, help=summary)
        if name == chosen:  # the others' imports are not needed
            module = importlib.import_module(f"carbench.cli.commands.{name}")
            command.description = module.__doc__
            module.add_arguments(command)
    args = parser.parse_args()
    try:
        sys.exit(importlib.import_module(f"carbench.cli.commands.{args.command}").run(args))
    except CarbenchError as error:
        logging.getLogger("carbench").error("%s", error)
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
    """Ends with 1 where the command line is wrong: to `carbench drift` 2 means something else."""

    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(1, f"{self.prog}: {message}\n")


def _run_this_clone() -> None:
    """Where several clones share an environment, run the code of the one that this is called in."""
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
