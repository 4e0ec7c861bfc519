"""Progress heads by the name that PROGRESS_LOSS.head has for them; ``base.py`` is their contract."""

from pkgutil import resolve_name

from configs import choices

HEADS = {name: resolve_name(address) for name, address in choices.HEADS.items()}
