"""Elements of the table of settings: settings, kinds of values, and options."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from utils.files import is_writable

SAFE_NAME = re.compile(r'[A-Za-z0-9][A-Za-z0-9._-]{0,99}')  # folder names without path separators
LARGEST_SIZE = 2**20  # of layers, kernels, heads, mixtures; a larger value is a typo and would not fit in memory
LARGEST_SEED = 2**62  # the seed plus the offsets that separate random streams must fit in 63 bits


@dataclass(frozen=True)
class Kind:
    """The values that a setting accepts.

    Attributes:
        words: description of the values, for errors and the documentation.
        types: accepted types; a whole number is converted if float is accepted and int is not.
        accepts: returns True if a value of these types is in range.
        choices: all values, if they can be listed; they are the choices of the setting's option.
    """

    words: str
    types: tuple[type, ...]
    accepts: Callable[[Any], bool] = lambda value: True
    choices: tuple[str, ...] = ()


@dataclass(frozen=True)
class Option:
    """An option of the training command lines that belongs to a setting.

    The option of a setting of true or false sets the opposite of the default. Any other option takes a value from the
    command line, unless it has a ``value``.

    Attributes:
        flags: spellings; a name without dashes is a positional argument.
        help: help text; '': the help of the setting.
        value: value of the setting if the option takes no value from the command line.
        words: value on the command line -> value of the setting, if they differ.
        takes: other settings, each with a value on the command line; the setting itself is switched.
        also: other settings -> their values.
        metavar: names of the values on the command line, for the help.
        one_of: title of a group; options of the same group are mutually exclusive.
    """

    flags: tuple[str, ...]
    help: str = ''
    value: object = None
    words: Mapping[str, object] = field(default_factory=dict)
    takes: tuple[str, ...] = ()
    also: Mapping[str, object] = field(default_factory=dict)
    metavar: str | tuple[str, ...] | None = None
    one_of: str = ''

    @property
    def name(self) -> str:
        """First spelling that is not abbreviated, used in messages."""
        return next((flag for flag in self.flags if flag.startswith('--')), self.flags[0])

    @property
    def destination(self) -> str:
        """Name of the attribute of the parsed arguments."""
        return self.name.lstrip('-').lower()


@dataclass(frozen=True)
class Setting:
    """A setting.

    Attributes:
        name: dotted name in CONFIG.
        default: default value; if it is None, None is always accepted.
        kind: accepted values.
        help: description that continues the name.
        options: options of the training command lines that set it.
        changes_numbers: False if a resumed run may change it, because it does not change the results.
    """

    name: str
    default: Any
    kind: Kind
    help: str
    options: tuple[Option, ...] = ()
    changes_numbers: bool = True


def option(*flags: str, **more: object) -> tuple[Option]:
    """Return the options of a setting that has a single option; arguments are the attributes of :class:`Option`."""
    return (Option(flags, **more),)


def section(name: str, *settings: Setting) -> tuple[Setting, ...]:
    """Return the settings of a section, given with names relative to it."""
    return tuple(replace(setting, name=f'{name}.{setting.name}') for setting in settings)


def one_of(*choices: str) -> Kind:
    """Return a kind that accepts one of these words."""
    return Kind(f'one of {", ".join(choices)}', (str,), lambda value: value in choices, choices)


def at_least(bound: float) -> Kind:
    """Return a kind that accepts numbers of at least ``bound``, or whole numbers only if ``bound`` is an int."""
    words = 'a whole number' if isinstance(bound, int) else 'a number'
    return Kind(f'{words} of at least {bound:g}', (type(bound),), lambda value: value >= bound)


def between(least: float, most: float) -> Kind:
    """Return a kind that accepts numbers in [least, most], whole ones if these are.

    It is for settings that time, memory, or processes are proportional to.
    """
    words = 'a whole number' if isinstance(least, int) else 'a number'
    return Kind(f'{words} from {least} to {most}', (type(least),), lambda value: least <= value <= most)


def _is_size(value: object) -> bool:
    return type(value) is int and 1 <= value <= LARGEST_SIZE  # type(), because True is an int


def _is_split(fractions: Sequence) -> bool:
    return (len(fractions) == 3 and all(type(fraction) in (int, float) and fraction >= 0 for fraction in fractions)
            and fractions[0] > 0 and abs(sum(fractions) - 1) < 1e-6)


def _is_time_scale(value: str | float) -> bool:
    return value in ('auto', 'median') if isinstance(value, str) else 1e-6 <= value <= 1e6


def _has_group(pattern: str) -> bool:
    try:
        return re.compile(pattern).groups > 0
    except re.error:
        return False


BOOL = Kind('true or false', (bool,))
TEXT = Kind('text', (str,))
RUN_FOLDER = Kind('the folder of a run', (str,), bool)
FOLDER_NAME = Kind('a name of letters, digits, ".", "_" and "-", 100 at most', (str,),
                   lambda value: bool(SAFE_NAME.fullmatch(value)))
GROUP_REGEX = Kind("a regular expression with a group, e.g. '^(P[0-9]+)_'", (str,), _has_group)
LIST = Kind('a list', (list,))
LABELS = Kind('a list of strings without unpaired surrogates', (list,),
              lambda value: all(isinstance(label, str) and is_writable(label) for label in value))
SIZE = Kind('a whole number from 1 to 2^20', (int,), _is_size)
SIZES = Kind('a list of whole numbers from 1 to 2^20', (list,), lambda value: bool(value) and all(map(_is_size, value)))
SEED = Kind('a whole number from 0 to 2^62', (int,), lambda value: 0 <= value <= LARGEST_SEED)
POSITIVE = Kind('a number above 0', (float,), lambda value: value > 0)
BOUNDED = Kind('a number above 0, at most 1e6', (float,), lambda value: 0 < value <= 1e6)
FRACTION = Kind('a number in (0, 1]', (float,), lambda value: 0 < value <= 1)
SPLIT = Kind('three fractions (train, val, test) that sum to 1', (list,), _is_split)
TIME_SCALE = Kind("'auto', 'median' or a number from 1e-6 to 1e6", (str, int, float), _is_time_scale)
