"""The one error a user may see: it says where, what was found, what was expected and the fix."""

from __future__ import annotations


class CarbenchError(Exception):
    """A problem in what the user gave, not in carbench; printed without a traceback.

    Args:
        where: the file, folder or address that the problem is in.
        found: what was found there.
        expected: what should have been there.
        fix: what to do now.
        key: the key inside the file (``train.epochs``, a member of an archive), if there is one.
    """

    def __init__(
        self, where: object, *, found: str, expected: str, fix: str, key: str | None = None
    ) -> None:
        place = f"{where}: {key}" if key else f"{where}"
        super().__init__(f"{place}: found {found}; expected {expected}. Fix: {fix}")

    @classmethod
    def from_message(cls, problem: str, fix: str) -> CarbenchError:
        """Return an error whose problem is already a sentence, as for several mistakes at once."""
        error = cls.__new__(cls)
        Exception.__init__(error, f"{problem}. Fix: {fix}")
        return error

    def __reduce__(self) -> tuple[object, ...]:
        """Let another process raise it: what it is made of is in its sentence."""
        return _restored, (str(self),)


def _restored(sentence: str) -> CarbenchError:
    error = CarbenchError.__new__(CarbenchError)
    Exception.__init__(error, sentence)
    return error
