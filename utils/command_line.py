"""What every command line does around its work: errors in one line, exit status, log, device, seed."""

import argparse
import random
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NoReturn

import torch

from utils.errors import StoppedError, UserError, first_line

USER_ERROR_STATUS, INTERRUPT_STATUS = 2, 130


class OneLineParser(argparse.ArgumentParser):
    """An argument parser whose errors are one line, raised rather than printed."""

    def error(self, message: str) -> NoReturn:
        """Raise the message as a user's mistake.

        Raises:
            UserError: always.
        """
        raise UserError(f'{message}; {self.prog} --help lists the options')


def run_command(command: Callable[[], None]) -> int:
    """Run a command line's work and return its exit status.

    A user's mistake is printed as one line and gives status 2; Ctrl-C gives 130, and SIGTERM, where it is noted, 143.
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
    """Put the name of an option before the message of a UserError: what raises it knows the value only."""
    try:
        yield
    except UserError as error:
        raise UserError(f'{name} {error}') from error


def choose_device(name: str | torch.device) -> torch.device:
    """Return the device of that name; 'auto' takes a GPU if there is one.

    Raises:
        UserError: no such device.
    """
    if name == 'auto':
        return torch.device('cuda' if torch.cuda.is_available() else 'cpu')
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
        if device.type == 'meta':
            raise RuntimeError('it computes nothing')
    except (RuntimeError, AssertionError) as error:
        raise UserError(f'{name}: not available as a device here ({first_line(error)}); use auto or cpu') from error
    return device


def seed_everything(seed: int) -> None:
    """Seed ``random`` and torch."""
    random.seed(seed)
    torch.manual_seed(seed)
