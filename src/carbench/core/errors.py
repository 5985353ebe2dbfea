"""The error for problems that the user can fix: location, what was found and expected, fix."""

from __future__ import annotations


class CarbenchError(Exception):
    """A problem in the user's input, not a bug in carbench; printed without a traceback.

    Args:
        where: the file, folder or URL with the problem.
        found: what is there.
        expected: what should be there.
        fix: how to fix it.
        key: the key in the file (``train.epochs``) or the member of the archive, if any.
    """

    def __init__(
        self, where: object, *, found: str, expected: str, fix: str, key: str | None = None
    ) -> None:
        place = f"{where}: {key}" if key else f"{where}"
        super().__init__(f"{place}: found {found}; expected {expected}. Fix: {fix}")

    @classmethod
    def from_message(cls, problem: str, fix: str) -> CarbenchError:
        """Return an error with a complete description, for instance of several problems."""
        error = cls.__new__(cls)
        Exception.__init__(error, f"{problem}. Fix: {fix}")
        return error

    def __reduce__(self) -> tuple[object, ...]:
        """Support pickling, to raise the error in another process."""
        return _from_text, (str(self),)


def _from_text(text: str) -> CarbenchError:
    error = CarbenchError.__new__(CarbenchError)
    Exception.__init__(error, text)
    return error
