"""What can go wrong, and the exit code that says so.

A user's mistake ends in one line: what, where, what to do. Anything else that escapes is our bug and exits with 1.
"""


class WinnowError(Exception):
    """A foreseen failure whose message is the one line a person reads."""

    exit_code = 1


class UsageError(WinnowError):
    """The command or call was put together wrongly."""

    exit_code = 2


class InputError(WinnowError):
    """The data, labels, run folder or other input cannot be used."""

    exit_code = 4


class InvalidInput(InputError, ValueError):
    """What a caller passed cannot be used; a ValueError too, as callers of numpy and scikit-learn expect."""


class MachineError(WinnowError):
    """The machine failed: disk, memory, a lost process."""

    exit_code = 5


class Interrupted(WinnowError):
    """A person or the system asked the work to stop; what was done is saved.

    Args:
        message: how to go on.
        signal_number: the signal that arrived; the exit code is 128 plus it.
    """

    def __init__(self, message: str, signal_number: int):
        super().__init__(message)
        self.exit_code = 128 + signal_number
