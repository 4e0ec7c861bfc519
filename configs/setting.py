"""What the table of settings is made of: settings, the values that they take, and their options."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from utils.files import is_writable

SAFE_NAME = re.compile(r'[A-Za-z0-9][A-Za-z0-9._-]{0,99}')  # of a folder that a setting names
LARGEST_SIZE = 2**20  # of layers, kernels, heads, mixtures: more is a slip, and no memory holds it
LARGEST_SEED = 2**62  # sums of the seed and what keeps draws apart must fit into 63 bits


@dataclass(frozen=True)
class Kind:
    """The values that a setting takes.

    Attributes:
        words: the values in words, for errors and the documentation.
        types: types of the value; a whole number is converted if only float is among them.
        accepts: returns True if a value of these types is in range.
        choices: all values, if they can be listed; an option of the setting offers them.
    """

    words: str
    types: tuple[type, ...]
    accepts: Callable[[Any], bool] = lambda value: True
    choices: tuple[str, ...] = ()


@dataclass(frozen=True)
class Option:
    """An option of the training command lines that belongs to a setting.

    A setting of true or false is switched to the opposite of its default. All others take what follows the option,
    unless there is a ``value``.

    Attributes:
        flags: its spellings; a name without dashes is a positional argument.
        help: '' takes the help of the setting.
        value: what the setting becomes, if nothing follows the option.
        words: what follows the option -> what the setting becomes, if the two differ.
        takes: further settings, each with a value that follows the option; the setting itself is switched.
        also: further settings -> what they become.
        metavar: names of what follows, for the help.
        one_of: a title; options with the same one exclude each other.
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
        """The first spelling without abbreviation; messages use it."""
        return next((flag for flag in self.flags if flag.startswith('--')), self.flags[0])

    @property
    def destination(self) -> str:
        """The attribute of the parsed arguments."""
        return self.name.lstrip('-').lower()


@dataclass(frozen=True)
class Setting:
    """A setting.

    Attributes:
        name: dotted name in CONFIG.
        default: its default; None can always be given again.
        kind: the other values that it takes.
        help: what it does, in words that continue the name.
        options: options of the training command lines that set it.
        changes_numbers: False if a resumed run may change it, since it does not change what is computed.
    """

    name: str
    default: Any
    kind: Kind
    help: str
    options: tuple[Option, ...] = ()
    changes_numbers: bool = True


def option(*flags: str, **more: object) -> tuple[Option]:
    """Return the one option of a setting; arguments as the attributes of :class:`Option`."""
    return (Option(flags, **more),)


def section(name: str, *settings: Setting) -> tuple[Setting, ...]:
    """Return the settings of a section, whose names are given relative to it."""
    return tuple(replace(setting, name=f'{name}.{setting.name}') for setting in settings)


def one_of(*choices: str) -> Kind:
    """Return a kind that takes one of some words."""
    return Kind(f'one of {", ".join(choices)}', (str,), lambda value: value in choices, choices)


def at_least(bound: float) -> Kind:
    """Return a kind that takes numbers of at least ``bound``; whole ones if ``bound`` is an int."""
    words = 'a whole number' if isinstance(bound, int) else 'a number'
    return Kind(f'{words} of at least {bound:g}', (type(bound),), lambda value: value >= bound)


def _is_size(value: object) -> bool:
    return type(value) is int and 1 <= value <= LARGEST_SIZE


def _is_split(shares: Sequence) -> bool:
    return (len(shares) == 3 and all(type(share) in (int, float) and share >= 0 for share in shares)
            and shares[0] > 0 and abs(sum(shares) - 1) < 1e-6)


def _is_time_scale(value: str | float) -> bool:
    return value in ('auto', 'median') if isinstance(value, str) else 1e-6 <= value <= 1e6


BOOL = Kind('true or false', (bool,))
TEXT = Kind('text', (str,))
RUN_FOLDER = Kind('the folder of a run', (str,), bool)
FOLDER_NAME = Kind('a name of letters, digits, ".", "_" and "-", 100 at most', (str,),
                   lambda value: bool(SAFE_NAME.fullmatch(value)))
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
