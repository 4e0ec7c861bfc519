"""Ctrl-C and SIGTERM: noted at any time, obeyed between two steps, with the command that goes on from there."""

import os
import shlex
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

from utils.errors import StoppedError

SIGNALS = (signal.SIGINT, signal.SIGTERM)
# Some senders repeat a signal at once (timeout does); a person who presses Ctrl-C again takes longer.
REPEATED_WITHIN = 1.0  # seconds
NOTICE = b'\nstopping after this step; Ctrl-C again stops at once\n'


class StopRequest:
    """Whether a signal has asked the run to stop.

    Args:
        agree: turns the signal of this process (0: none) into that of all processes of the run, which have to stop
            after the same step.
        announce: whether a notice goes to standard error when the signal comes.
    """

    def __init__(self, agree: Callable[[int], int] = int, *, announce: bool = True) -> None:
        self._agree, self._announce = agree, announce
        self._signum, self._noted_at = 0, 0.0

    def note(self, signum: int, frame: FrameType | None = None) -> None:
        """Take a signal, as its handler.

        Raises:
            KeyboardInterrupt: Ctrl-C was pressed again.
        """
        if not self._signum:
            self._signum, self._noted_at = signum, time.monotonic()
            if self._announce:
                os.write(2, NOTICE)  # a log line could be caught in the middle of another
        elif signum == signal.SIGINT and time.monotonic() - self._noted_at > REPEATED_WITHIN:
            raise KeyboardInterrupt

    def check(self) -> None:
        """Stop here if a signal has asked for it.

        Raises:
            StoppedError: a signal came to this process or to another one of the run.
        """
        if signum := self._agree(self._signum):
            raise StoppedError(signum)


@contextmanager
def stop_on_signals(stop: StopRequest) -> Iterator[StopRequest]:
    """Let Ctrl-C and SIGTERM be noted inside the block; only in the main thread."""
    before = {signum: signal.signal(signum, stop.note) for signum in SIGNALS}
    try:
        yield stop
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)


def command_to_go_on(program: Sequence[str], argv: Sequence[str], *, saved: bool) -> str:
    """Return the command line that continues a run which a signal has stopped.

    Args:
        program: what starts the program, e.g. python and its file.
        argv: arguments of the call that was stopped.
        saved: whether an epoch was finished, so that there is a state to go on from; else the run starts anew.
    """
    kept, arguments = [], iter(argv)
    for argument in arguments:
        name, _, value = argument.partition('=')
        if _stands_for(name, '--splits') and saved:  # a resumed run keeps its split
            if not value:
                next(arguments, None)
        elif not (_stands_for(name, '--overwrite') or _stands_for(name, '--resume')):
            kept.append(argument)
    return shlex.join([*program, *kept, '--resume' if saved else '--overwrite'])


def _stands_for(argument: str, option: str) -> bool:
    """Say whether an argument is an option or an abbreviation of it that no other option has."""
    return len(argument) > len('--r') and option.startswith(argument)
