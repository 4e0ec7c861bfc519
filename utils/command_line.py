"""Functions shared by all command lines: one-line errors, exit status, device and seed."""

import argparse
import random
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from utils.errors import StoppedError, UserError, first_line
from utils.files import expand_home

if TYPE_CHECKING:
    import torch

USER_ERROR_STATUS, INTERRUPT_STATUS = 2, 130


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

    A UserError is printed as one line and gives status 2. Ctrl-C gives 130, and SIGTERM 143 if the command handles it.
    """
    try:
        command()
    except UserError as error:
        print(f'error: {" ".join(str(error).split())}', file=sys.stderr)
        return USER_ERROR_STATUS
    except StoppedError as interrupt:
        if str(interrupt):
            print(interrupt, file=sys.stderr)
        return interrupt.status
    except KeyboardInterrupt:
        print('interrupted', file=sys.stderr)
        return INTERRUPT_STATUS
    return 0


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
