"""Progress heads, one file each; ``base.py`` is their contract, and ``configs/choices.py`` lists them by name."""
