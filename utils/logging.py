"""Loggers of the project: one tree, silent until a command line sets it up."""

import logging
import sys
from contextlib import suppress
from pathlib import Path

from tqdm import tqdm

from utils.errors import UserError
from utils.text import printable

ROOT = 'progress'


def get_logger(name: str) -> logging.Logger:
    """Return the logger of a module (pass ``__name__``)."""
    return logging.getLogger(f'{ROOT}.{name}')


class _TqdmHandler(logging.Handler):
    """A handler that writes above a running progress bar instead of into it."""

    def emit(self, record: logging.LogRecord) -> None:
        with suppress(OSError, ValueError):  # nobody reads standard error any more, which must not end a training run
            tqdm.write(self.format(record), file=sys.stderr)


class _OneLineFormatter(logging.Formatter):
    """A formatter of one line for each record, without the control characters that names and labels may hold."""

    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record))


def set_up_logging(verbose: bool = False, *, quiet: bool = False) -> None:
    """Log to standard error, including debug messages if ``verbose``, and critical messages only if ``quiet``."""
    logger = logging.getLogger(ROOT)
    logger.setLevel(logging.CRITICAL if quiet else logging.DEBUG if verbose else logging.INFO)
    # Otherwise the root logger of a program that imports this one would write each line again.
    logger.propagate = False
    for handler in list(logger.handlers):
        logger.removeHandler(handler)
        handler.close()
    handler = _TqdmHandler()
    handler.setFormatter(_OneLineFormatter('%(levelname).1s %(message)s'))
    logger.addHandler(handler)


class _LogFile(logging.FileHandler):
    """A log file that warns once if it can no longer be written, and lets the program continue."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 (logging's name)
        logger = logging.getLogger(ROOT)
        logger.removeHandler(self)
        logger.warning('%s: can no longer be written (%s); logging continues here only', self.baseFilename,
                       sys.exc_info()[1])


def log_to_file(path: Path) -> logging.Handler:
    """Append the log to ``path`` as well, instead of any earlier file, and return the handler.

    Raises:
        UserError: the file cannot be written.
    """
    try:
        handler = _LogFile(path, encoding='utf-8', errors='backslashreplace')
    except OSError as error:
        raise UserError(f'{path}: cannot be written ({error.strerror}); make the run folder writable') from error
    handler.setFormatter(_OneLineFormatter('%(asctime)s %(levelname)s %(message)s'))
    logger = logging.getLogger(ROOT)
    for earlier in [other for other in logger.handlers if isinstance(other, _LogFile)]:
        logger.removeHandler(earlier)
        earlier.close()
    logger.addHandler(handler)
    return handler
