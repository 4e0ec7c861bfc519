"""Handle Ctrl-C and SIGTERM: stop a run between two optimizer steps, and return the command that continues it."""

import os
import shlex
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

from utils.errors import StoppedError

SIGNALS = (signal.SIGINT, signal.SIGTERM)
# Some senders, such as timeout, repeat a signal immediately; a person who presses Ctrl-C again takes longer.
REPEATED_WITHIN = 1.0  # seconds
NOTICE = b'\nstopping after this step; press Ctrl-C again to stop immediately\n'


class StopRequest:
    """Records a signal that asks the run to stop.

    Args:
        agree: returns the signal common to all processes of the run, given the signal of this process (0 if there is no
            signal); all processes must stop after the same step.
        announce: print a notice to standard error if a signal arrives.
    """

    def __init__(self, agree: Callable[[int], int] = int, *, announce: bool = True) -> None:
        self._agree, self._announce = agree, announce
        self._signum, self._noted_at = 0, 0.0

    def note(self, signum: int, frame: FrameType | None = None) -> None:
        """Record a signal; a signal handler.

        Raises:
            KeyboardInterrupt: Ctrl-C was pressed again.
        """
        if not self._signum:
            self._signum, self._noted_at = signum, time.monotonic()
            if self._announce:
                os.write(2, NOTICE)  # logging is not safe in a signal handler: it may interrupt another log call
        # A repeated SIGTERM is ignored: the run is already stopping.
        elif signum == signal.SIGINT and time.monotonic() - self._noted_at > REPEATED_WITHIN:
            raise KeyboardInterrupt

    def check(self) -> None:
        """Raise if a signal has asked the run to stop.

        Raises:
            StoppedError: this process or another process of the run received a signal.
        """
        # All processes must call this at the same step: agree is a collective operation.
        if signum := self._agree(self._signum):
            raise StoppedError(signum)


@contextmanager
def stop_on_signals(stop: StopRequest) -> Iterator[StopRequest]:
    """Record Ctrl-C and SIGTERM inside the block instead of raising; only in the main thread."""
    before = {signum: signal.signal(signum, stop.note) for signum in SIGNALS}
    try:
        yield stop
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)


def command_to_go_on(program: Sequence[str], argv: Sequence[str], *, saved: bool) -> str:
    """Return the command line that continues a run stopped by a signal.

    Args:
        program: words that start the program, for example python and its file.
        argv: arguments of the stopped call.
        saved: True if an epoch was completed, so that the run can be resumed; otherwise the run starts again.
    """
    kept, arguments = [], iter(argv)
    for argument in arguments:
        name, _, value = argument.partition('=')
        if _stands_for(name, '--splits') and saved:  # a resumed run keeps its split
            # The file follows as its own argument, not after '='.
            if not value:
                next(arguments, None)
        elif not (_stands_for(name, '--overwrite') or _stands_for(name, '--resume')):
            kept.append(argument)
    return shlex.join([*program, *kept, '--resume' if saved else '--overwrite'])


def _stands_for(argument: str, option: str) -> bool:
    """Return True if ``argument`` is ``option`` or an unambiguous prefix of it."""
    # Shorter abbreviations match several options, so argparse has already refused them.
    return len(argument) > len('--r') and option.startswith(argument)
