"""Progress heads, one per file; ``base.py`` defines their interface, and ``configs/choices.py`` lists them by name."""
