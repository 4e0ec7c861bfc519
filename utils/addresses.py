"""Objects by address, 'module:name', as the tables of choices hold them."""

import difflib
import importlib
from typing import Any

from utils.errors import UserError


def resolve(address: str, entry: str) -> Any:  # noqa: ANN401 - a class or function of any kind
    """Return the class or function at an address.

    Args:
        address: 'module:name'.
        entry: file and entry of the table that holds the address, for messages.

    Raises:
        UserError: there is no such module, or it has no such name. Errors within the module are not caught.
    """
    module_name, _, name = address.partition(':')
    expected = "expected the address of a class or function, 'module:name'"
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        # A package that the module itself imports may be missing, too: that is not a mistake in the address.
        if not error.name or not f'{module_name}.'.startswith(f'{error.name}.'):
            raise
        raise UserError(f'{entry}: {address!r}: there is no module {error.name}, {expected}; fix the entry') from error
    if not hasattr(module, name):
        near = difflib.get_close_matches(name, [known for known in vars(module) if known[0] != '_'], n=1)
        raise UserError(f'{entry}: {address!r}: {module_name} has no {name or "name after a colon"}, {expected}'
                        f'{f", perhaps {near[0]}" if near else ""}; fix the entry')
    return getattr(module, name)
