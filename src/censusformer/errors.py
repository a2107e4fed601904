"""The one exception that a user is meant to read."""


class InputError(Exception):
    """Something the user gave or set is wrong.

    The message names the file, key or sample, says what is wrong with it and what to do.
    The command line prints it without a traceback and exits with 2.
    """
