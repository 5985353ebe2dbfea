"""Writes into dvc.yaml which code each stage runs: ``python -m carbench.engines.code_lists``.

Run it in the repository after a script's imports have changed. Everything else in the file stays
as a person wrote it. A new stage needs its script under ``deps`` to be found.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from carbench.core.code_dependencies import code_of

STAGE = re.compile(r"^  (\w+):$")
CODE = re.compile(r"^( +- )((?:scripts|src/carbench)/\S+\.(?:py|html|css|js|md|csv))$")


def with_code(definition: str, root: Path = Path()) -> str:
    """Return dvc.yaml's text with the code of every stage as its script's imports have it."""
    lines: list[str] = []
    stage, listed = "", set()
    for line in definition.split("\n"):
        if found := STAGE.match(line):
            stage = found[1]
        code = CODE.match(line)
        if not code:
            lines.append(line)
        elif stage not in listed:
            listed.add(stage)
            lines += [f"{code[1]}{path}" for path in code_of(stage, root)]
    return "\n".join(lines)


if __name__ == "__main__":
    file = Path("dvc.yaml")
    if not file.is_file():
        sys.exit("dvc.yaml: found no such file; expected the repository. Fix: run it there")
    file.write_text(with_code(file.read_text(encoding="utf-8")), encoding="utf-8")
