"""Exceptions for user errors and signals, and helpers for messages."""

from collections.abc import Sequence


class UserError(Exception):
    """An error that the user can fix: a file, an option, a dataset.

    The message is one line that names the file or option, the value found, the value expected, and how to fix it.
    Command lines print it and exit with status 2. If a loader process raised it, only its first line is kept.
    """


class StoppedError(Exception):
    """The program stopped because of a signal; everything saved before is intact.

    Args:
        signum: number of the signal.
        message: one line for the user; empty if another process of the run prints it.
    """

    def __init__(self, signum: int, message: str = 'interrupted') -> None:
        super().__init__(message)
        self.signum = signum

    @property
    def status(self) -> int:
        """Exit status by shell convention: 130 for Ctrl-C, 143 for SIGTERM."""
        return 128 + self.signum


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, or the name of its class if the message is empty."""
    return (str(error).splitlines() or [type(error).__name__])[0]


def name_some(names: Sequence[str], limit: int = 5) -> str:
    """Join the first ``limit`` names for a message, and count the others."""
    more = f' and {len(names) - limit} more' if len(names) > limit else ''
    return ', '.join(names[:limit]) + more
