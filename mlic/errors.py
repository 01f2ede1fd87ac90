"""The one error class for what a user can put right."""

from collections.abc import Collection
from typing import Any

from mlic.escaping import printable


class InputError(ValueError):
    """Bad input: a file, a row or a config key that cannot be used as it is.

    The message names the place, says what was expected and how to go on; entry points show it without a traceback.

    Attributes:
        key: config key of the setting that cannot be used, for code that treats settings otherwise than files; None
            where the error is about something else, or nobody asks.
    """

    def __init__(self, message: str = "", *, key: str | None = None) -> None:
        """Keep the message and the key."""
        super().__init__(message)
        self.key = key

    def __str__(self) -> str:
        """The message; names in it may hold control characters, which are made visible."""
        return printable(super().__str__())


def check_choice(key: str, value: Any, choices: Collection[str]) -> None:
    """Check a setting that names one of several choices.

    Raises:
        InputError: it is not one of them.
    """
    if value not in choices:
        raise InputError(f"{key}: must be one of {', '.join(choices)}, got '{value}'.", key=key)
