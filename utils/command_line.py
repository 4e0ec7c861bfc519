"""Functions shared by all command lines: one-line errors, exit status, device and seed."""

import argparse
import os
import random
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from utils.errors import StoppedError, UserError, first_line
from utils.files import expand_home
from utils.standard_streams import (
    NO_READER_STATUS,
    USER_ERROR_STATUS,
    finish_output,
    prepare_streams,
    print_error,
)
from utils.text import short_text

if TYPE_CHECKING:
    import torch

INTERRUPT_STATUS = 130
SYMLINK_LOOP = 'Symlink loop'
MAY_BE_EMPTY = ('-m', '--message')
EMPTY_OPTION = re.compile('--(?!message)[a-z_]+=')


class OneLineParser(argparse.ArgumentParser):
    """An argument parser that raises errors as one line instead of printing them."""

    def error(self, message: str) -> NoReturn:
        """Raise the message as a UserError.

        Raises:
            UserError: always.
        """
        raise UserError(f'{message}; {self.prog} --help lists the options')

    def parse_known_args(self, args: Sequence[str] | None = None,
                         namespace: argparse.Namespace | None = None) -> tuple[argparse.Namespace, list[str]]:
        """Parse arguments; a shell does not expand ``~`` in --option=~/path, so it is expanded in every path.

        Raises:
            UserError: an argument is invalid, or there is no home folder for a path.
        """
        args = sys.argv[1:] if args is None else args
        for before, argument in pairwise(['', *args]):
            # Most often an unset variable; it would mean the working directory, or that the option is not given.
            if before not in MAY_BE_EMPTY and (not argument or EMPTY_OPTION.fullmatch(argument)):
                self.error(f'{argument or before or "the first argument"}: an empty argument, expected a value; give '
                           'it, or leave the option out')
        arguments, rest = super().parse_known_args(args, namespace)
        for name, value in vars(arguments).items():
            if isinstance(value, Path):
                setattr(arguments, name, expand_home(value, f'{name} '))
            elif isinstance(value, list):
                setattr(arguments, name, [expand_home(entry, f'{name} ') if isinstance(entry, Path) else entry
                                          for entry in value])
        return arguments, rest


def run_command(command: Callable[[], None]) -> int:
    """Run a command and return its exit status.

    Everything that a user can fix is one line and gives status 2: a UserError, a file or folder that the system refuses
    (no permission, a name that is too long, a full disk), too little memory, an output that cannot be written. Ctrl-C
    gives 130, SIGTERM 143 if the command handles it, and 141 an output whose reader has gone away (as in ``| head``).
    """
    prepare_streams()
    share_cores()
    try:
        status = _run(command)
    except SystemExit as help_was_printed:
        if status := finish_output():
            return status
        raise help_was_printed from None
    return finish_output(status)


def share_cores() -> None:
    """Let threads sleep while they wait for each other; has an effect only before torch is imported.

    Otherwise they spin. If another program needs a core, a thread that waits takes it from the one that is waited for,
    and short computations such as GTCC's take tens of times longer. A setting of the user is kept.
    """
    os.environ.setdefault('OMP_WAIT_POLICY', 'PASSIVE')


def _run(command: Callable[[], None]) -> int:
    """Run a command, report its errors, and return its status."""
    try:
        command()
    except UserError as error:
        return _fail(str(error))
    except StoppedError as interrupt:
        if str(interrupt):
            print_error(str(interrupt))
        return interrupt.status
    except KeyboardInterrupt:
        print_error('interrupted')
        return INTERRUPT_STATUS
    except UnicodeEncodeError as error:
        return _fail(f'{error.object[:60]!r}: is not text that can be written as {error.encoding}; rename it')
    except BrokenPipeError:
        return NO_READER_STATUS
    except OSError as error:
        return _fail(_describe(error))
    except (MemoryError, RuntimeError) as error:  # torch raises a RuntimeError, without a subclass on the CPU
        if str(error).startswith(SYMLINK_LOOP):  # of pathlib
            return _fail(f'{error}; expected a path without links that lead to each other: remove the link')
        if not is_out_of_memory(error):
            raise
        return _fail(f'not enough memory ({first_line(error)[:150]}); give smaller sizes, or use a machine with more')
    return 0


def _fail(message: str) -> int:
    print_error(f'error: {message}')
    return USER_ERROR_STATUS


def _describe(error: OSError) -> str:
    """Return the message of a file or folder that the system refuses."""
    if error.filename is None:
        return f'the system refuses it ({error.strerror or error}); check free space and permissions'
    return (f'{short_text(os.fsdecode(error.filename))}: cannot be used ({error.strerror}); expected a path that '
            'you may read, or write to for results: check it and its permissions')


def is_out_of_memory(error: Exception) -> bool:
    """Return True if an error says that memory could not be allocated."""
    return isinstance(error, MemoryError) or bool(re.search("can't allocate|out of memory|not enough memory",
                                                            str(error)))


@contextmanager
def option(name: str) -> Iterator[None]:
    """Prefix the message of a UserError with the name of an option; the code that raises it only knows the value."""
    try:
        yield
    except UserError as error:
        raise UserError(f'{name} {error}') from error


def choose_device(name: 'str | torch.device') -> 'torch.device':
    """Return the device with the given name; 'auto' is a GPU if there is one, otherwise the CPU.

    Raises:
        UserError: the device is not available.
    """
    import torch  # imported here because it takes seconds, which --help should not need

    if name == 'auto':
        return torch.device('cuda' if torch.cuda.is_available() else 'cpu')
    try:
        device = torch.device(name)
        # A name of missing hardware is valid until something is put on it.
        torch.empty(1, device=device)
        if device.type == 'meta':
            raise RuntimeError('it does not compute values')
    except (RuntimeError, AssertionError) as error:
        raise UserError(f'{name}: not available as a device here ({first_line(error)}); use auto or cpu') from error
    return device


def seed_everything(seed: int) -> None:
    """Seed the generators of ``random`` and torch."""
    import torch

    random.seed(seed)
    torch.manual_seed(seed)
