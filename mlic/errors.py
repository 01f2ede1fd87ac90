"""The error class for problems that the user can correct."""

from collections.abc import Collection
from typing import Any

from mlic.escaping import printable

NO_WEIGHTS_KEY = "model.backbone.weights"  # `InputError.key` if the weights of a network are not found


class InputError(ValueError):
    """Invalid input, such as a file, a row of a file or a setting.

    The message names the place, the expected input and a remedy. Commands show it without a traceback.

    Attributes:
        key: config key of the setting that cannot be used, for code that treats settings otherwise than files; None
            where the error is about something else, or nobody asks.
    """

    def __init__(self, message: str = "", *, key: str | None = None) -> None:
        """Store the message and the key."""
        super().__init__(message)
        self.key = key

    def __str__(self) -> str:
        """Return the message with escaped control characters, which names may contain."""
        return printable(super().__str__())


def setting_error(key: str, message: str) -> InputError:
    """Return the error about a setting that cannot be used; the message has no full stop."""
    return InputError(f"{key}: {message}.", key=key)


def check_choice(key: str, value: Any, choices: Collection[str]) -> None:
    """Check a setting that names one of several choices.

    Raises:
        InputError: the value is not one of the choices.
    """
    if value not in choices:
        raise setting_error(key, f"must be one of {', '.join(choices)}, got '{value}'")
