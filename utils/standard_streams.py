"""Standard input, output and error: closed, full, or non-blocking ones, and what is printed on a terminal."""

import os
import sys
from contextlib import suppress

from utils.text import one_line, printable

USER_ERROR_STATUS, NO_READER_STATUS = 2, 141  # by shell convention, 128 + SIGPIPE

_errors: list[OSError] = []  # of standard output


def prepare_streams() -> None:
    """Make the standard streams usable, whatever the calling program made of them.

    - A closed one is opened on nothing, so that no file that is opened later takes its place and gets what is printed.
      Writing to a closed standard output is an error, as is a full disk; what is logged to a closed standard error is
      lost.
    - A non-blocking one is made blocking: a pause of the other side is neither an end nor an error.
    - What an encoding cannot write is printed as an escape.
    """
    _errors.clear()
    for number, mode in ((0, os.O_RDONLY), (1, os.O_RDONLY), (2, os.O_WRONLY)):
        try:
            if not os.get_blocking(number):
                os.set_blocking(number, True)
        except OSError:
            os.open(os.devnull, mode)  # takes the lowest free number
    if sys.stdout is None:
        sys.stdout = open(1, 'w', encoding='utf-8', closefd=False)  # noqa: SIM115  open until the process ends
    if sys.stderr is None:
        sys.stderr = open(os.devnull, 'w', encoding='utf-8')  # noqa: SIM115
    if hasattr(sys.stdout, 'reconfigure'):
        sys.stdout.reconfigure(errors='backslashreplace')


def say(*lines: str) -> None:
    """Print lines of text on standard output, without characters that control a terminal.

    An output that cannot be written does not stop the work: :func:`finish_output` reports it at the end.
    """
    if _errors:
        return
    try:
        print(*(printable(line, keep='\n') for line in lines), sep='\n')
    except OSError as error:
        _errors.append(error)


def print_error(message: str) -> None:
    """Print a message on standard error, on one line; it is lost if nobody can read it."""
    with suppress(OSError, ValueError):
        print(one_line(message), file=sys.stderr, flush=True)


def finish_output(status: int = 0) -> int:
    """Write out what was printed.

    Args:
        status: exit status so far; unless it is 0, an error was printed, and no other one is.

    Returns:
        The exit status: the given one, or that of an output that cannot be written.
    """
    try:
        sys.stdout.flush()
    except OSError as error:
        _errors.append(error)
    if not _errors:
        return status
    # Python would write the rest again at exit, and report a second error.
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if isinstance(_errors[0], BrokenPipeError):
        return status or NO_READER_STATUS
    if not status:
        print_error(f'error: standard output: cannot be written ({_errors[0].strerror}), so what it would have shown '
                    'is lost; give it a terminal, a pipe, or a file on a disk with free space')
    return status or USER_ERROR_STATUS
