"""The one error class for what a user can put right."""


class InputError(ValueError):
    """Bad input: a file, a row or a config key that cannot be used as it is.

    The message names the place, says what was expected and how to go on; entry points show it without a traceback.
    """
