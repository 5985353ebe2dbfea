"""Reading of params.yaml, with error messages that name the key and the fix.

The file is read as YAML 1.2, as by DVC. Snakemake reads it as YAML 1.1, where ``1e-3`` is a string
and ``yes`` a boolean. Values are therefore validated strictly, so that only spellings with the same
meaning in both versions are accepted.
"""

from __future__ import annotations

import itertools
import math
import unicodedata
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from carbench.core.errors import CarbenchError

Model = TypeVar("Model", bound=BaseModel)

# Larger seeds and counts overflow in some libraries.
LARGEST_INTEGER = 2**31 - 1
MAX_DEPTH = 20
MAX_VALUES = 100_000


class Section(BaseModel):
    """Base class of a section of params.yaml: no unknown keys, strict types, frozen values.

    Sections have no defaults: every value is in params.yaml.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


def read_yaml(path: Path) -> dict[str, Any]:
    """Return the mapping in a YAML 1.2 file; :class:`CarbenchError` if it has none."""
    return parse_yaml(read_text(path), path)


def read_text(path: Path) -> str:
    """Return the text of a parameter file; :class:`CarbenchError` if it is missing or not UTF-8."""
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise CarbenchError(
            path,
            found="no such file",
            expected="the study's parameters",
            fix="run from the repository's root, or start a study with `carbench init sample`",
        ) from None
    except UnicodeDecodeError as error:
        raise CarbenchError(
            path,
            found=f"bytes that are not UTF-8 ({error.reason} at {error.start})",
            expected="a text file in UTF-8",
            fix="save it as UTF-8",
        ) from None


def parse_yaml(text: str, path: Path) -> dict[str, Any]:
    """Return the mapping in a YAML 1.2 text; :class:`CarbenchError` if it has none.

    Args:
        text: content of the file, which need not be written yet.
        path: the file, for error messages.
    """
    try:
        content = YAML(typ="safe").load(text)
    except (YAMLError, RecursionError, ValueError) as error:
        what = (
            str(error).split("To suppress this check")[0].replace('in "<unicode string>", ', "at ")
        )
        what = " ".join(what.split())
        raise CarbenchError(
            path, found=f"unreadable YAML ({what})", expected="YAML", fix="correct that line"
        ) from None
    if not isinstance(content, dict):
        raise CarbenchError(
            path,
            found=f"a {type(content).__name__}" if content is not None else "an empty file",
            expected="sections such as `data:` and `train:`",
            fix="start again with `carbench init` and the name of a preset",
        )
    return content


def has_control_characters(text: str) -> bool:
    """Return whether a text has line breaks, other control characters, or invalid UTF-8."""
    return any(unicodedata.category(character) in ("Cc", "Cs") for character in text)


def reject_extreme_values(path: Path, content: dict[str, Any]) -> None:
    """Raise an error for values that are too large, too deep or not finite."""
    stack: list[tuple[str, Any, int]] = [("", content, 0)]  # the depth of recursion is limited
    for count in itertools.count(1):
        if not stack:
            return
        key, value, depth = stack.pop()
        found, expected = "", ""
        if count > MAX_VALUES:  # a few lines of aliases can expand to billions
            found, expected = f"more than {MAX_VALUES:,} values", "a study's parameters"
        elif depth > MAX_DEPTH:
            found, expected = f"more than {MAX_DEPTH} levels", "sections, keys and lists"
        elif isinstance(value, dict):
            stack += [(f"{key}.{k}" if key else str(k), v, depth + 1) for k, v in value.items()]
        elif isinstance(value, list | tuple | set):
            stack += [(key, item, depth + 1) for item in value]
        elif isinstance(value, int) and abs(value) > LARGEST_INTEGER:
            found, expected = f"{value}", f"a whole number of at most {LARGEST_INTEGER:,}"
        elif isinstance(value, float) and not math.isfinite(value):
            found, expected = f"{value}", "a finite number"
        elif isinstance(value, str) and has_control_characters(value):
            found, expected = f"{ascii(value)[:60]}", "text on one line, without control characters"
        if found:
            raise CarbenchError(
                path, key=key[:60], found=found, expected=expected, fix="correct it"
            )


def lookup(content: dict[str, Any], key: str, path: Path) -> Any:
    """Return the value at a dotted key such as ``backbones.resnet.train``."""
    value: Any = content
    for part in key.split("."):
        if not isinstance(value, dict) or part not in value:
            known = [str(name) for name in value] if isinstance(value, dict) else []
            raise CarbenchError(
                path,
                key=key,
                found="nothing",
                expected=f"{part!r} among {', '.join(known) or 'its keys'}{_nearest(part, known)}",
                fix=f"correct the name, or add `{part}:` as in presets/sample.yaml",
            )
        value = value[part]
    return value


def parse(value: Any, model: type[Model], key: str, path: Path) -> Model:
    """Return ``value`` as ``model``; the error lists invalid keys and the closest valid ones."""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise validation_error(error, model, key, path) from None


def read_section(path: Path, key: str, model: type[Model]) -> Model:
    """Read one section of a parameter file."""
    return parse(lookup(read_yaml(path), key, path), model, key, path)


def validation_error(
    error: ValidationError, model: type[BaseModel], key: str, path: Path
) -> CarbenchError:
    """Convert pydantic's error: key, found and expected value, closest valid key."""
    problems = error.errors()
    sentences = []
    for problem in problems:
        # The names of a union's alternatives are not keys of the file.
        names = [str(part) for part in problem["loc"] if not _is_alternative(str(part))]
        where = ".".join([key, *names] if key else names)
        if problem["type"] == "extra_forbidden":
            nearest = _nearest(names[-1], _valid_keys(model, names[:-1]))
            sentences.append(f"{where}: unknown key{nearest}")
        elif problem["type"] == "missing":
            sentences.append(f"{where}: missing; add `{names[-1]}:` as in presets/sample.yaml")
        else:
            expected = problem["msg"].removeprefix("Value error, ")
            expected = expected.replace("Input should be", "expected", 1)
            hint = _spelling_hint(problem["input"])
            found = "" if isinstance(problem["input"], dict) else f"found {problem['input']!r}; "
            sentences.append(f"{where}: {found}{expected}{hint}")
    return CarbenchError.from_message(
        f"{path}: " + "; ".join(dict.fromkeys(sentences)),
        fix="correct these keys; the comments in presets/sample.yaml explain each",
    )


def _is_alternative(part: str) -> bool:
    return "[" in part or part[:1].isupper()


def _nearest(name: str, known: list[str]) -> str:
    close = get_close_matches(name, known, n=1, cutoff=0.5)
    return f", did you mean {close[0]!r}?" if close else ""


def _valid_keys(model: type[BaseModel], names: list[str]) -> list[str]:
    """Return the field names of the nested model at the path ``names``."""
    for name in names:
        field = model.model_fields.get(name)
        annotation = field.annotation if field else None
        if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
            return list(model.model_fields) if field is None else []
        model = annotation
    return list(model.model_fields)


def _spelling_hint(value: Any) -> str:
    """Return a hint for spellings whose meaning differs between YAML versions."""
    if isinstance(value, str):
        if value.lower() in {"yes", "no", "on", "off"}:
            return " (write true or false)"
        try:
            float(value)
        except ValueError:
            return ""
        return " (write numbers without quotes, and 1.0e-3 instead of 1e-3)"
    return ""
