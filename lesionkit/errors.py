"""Errors that a user can mend."""


class InputError(ValueError):
    """Input from outside (a file, a folder, a command-line value) that cannot be used.

    The message names the file or argument, what is wrong with it and the remedy. The command
    line prints it as one line and exits with code 2.
    """
