"""Loggers of the project: one tree under one name, silent until a command line sets it up."""

import logging
import sys
from pathlib import Path

from tqdm import tqdm

from utils.errors import UserError

ROOT = 'progress'


def get_logger(name: str) -> logging.Logger:
    """Return the project's logger for a module (pass ``__name__``)."""
    return logging.getLogger(f'{ROOT}.{name}')


class _TqdmHandler(logging.Handler):
    """Writes above a running progress bar instead of through it."""

    def emit(self, record: logging.LogRecord) -> None:
        tqdm.write(self.format(record), file=sys.stderr)


def set_up_logging(verbose: bool = False, *, quiet: bool = False) -> None:
    """Send the project's log to standard error; with ``verbose`` the debug lines too, with ``quiet`` none."""
    logger = logging.getLogger(ROOT)
    logger.setLevel(logging.CRITICAL if quiet else logging.DEBUG if verbose else logging.INFO)
    logger.propagate = False
    for handler in list(logger.handlers):
        logger.removeHandler(handler)
        handler.close()
    handler = _TqdmHandler()
    handler.setFormatter(logging.Formatter('%(levelname).1s %(message)s'))
    logger.addHandler(handler)


class _LogFile(logging.FileHandler):
    """A file that, once it cannot be written, says so in one line and lets the work go on."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 (logging's name)
        logger = logging.getLogger(ROOT)
        logger.removeHandler(self)
        logger.warning('%s: cannot be written any more (%s); the log goes on here alone', self.baseFilename,
                       sys.exc_info()[1])


def log_to_file(path: Path) -> logging.Handler:
    """Copy the project's log to ``path`` (appended), and no longer to a file from before; returns the handler.

    Raises:
        UserError: the file cannot be written.
    """
    try:
        handler = _LogFile(path, encoding='utf-8')
    except OSError as error:
        raise UserError(f'{path}: cannot be written ({error.strerror}); make the run folder writable') from error
    handler.setFormatter(logging.Formatter('%(asctime)s %(levelname)s %(message)s'))
    logger = logging.getLogger(ROOT)
    for earlier in [other for other in logger.handlers if isinstance(other, _LogFile)]:
        logger.removeHandler(earlier)
        earlier.close()
    logger.addHandler(handler)
    return handler
