"""The one exception that stands for a mistake of the user rather than of the program."""


class UserError(Exception):
    """A mistake the user can mend: a file, an option, a dataset.

    The message is one line that names the file or option, what was found, what was expected and how to mend
    it. Command lines print it and end with status 2; what comes back from a loader process is cut to that line first.
    """
