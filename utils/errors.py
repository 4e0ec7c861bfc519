"""What ends a program without a defect of it, a mistake of the user or a signal, and lists of names in messages."""

from collections.abc import Sequence


class UserError(Exception):
    """A mistake the user can mend: a file, an option, a dataset.

    The message is one line that names the file or option, what was found, what was expected and how to mend
    it. Command lines print it and end with status 2; what comes back from a loader process is cut to that line first.
    """


class StoppedError(Exception):
    """A signal asked the program to stop, and it has, with everything in place that was saved before.

    Args:
        signum: the signal.
        message: one line for the user; none where another process of the run tells.
    """

    def __init__(self, signum: int, message: str = 'interrupted') -> None:
        super().__init__(message)
        self.signum = signum

    @property
    def status(self) -> int:
        """Exit status by the custom of shells: 130 for Ctrl-C, 143 for SIGTERM."""
        return 128 + self.signum


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, or its kind where it has none."""
    return (str(error).splitlines() or [type(error).__name__])[0]


def name_some(names: Sequence[str], limit: int = 5) -> str:
    """Name the first few of many things in a message."""
    more = f' and {len(names) - limit} more' if len(names) > limit else ''
    return ', '.join(names[:limit]) + more
