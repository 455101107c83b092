"""What valuerec raises: one sentence that says what is wrong, where, and what to do."""


class ValuerecError(Exception):
    """Something in the data, the files or the machine is wrong; the command line exits with 1."""

    exit_code = 1


class UsageError(ValuerecError):
    """The call itself is wrong (an option, a value, an unknown name); the command line exits with 2."""

    exit_code = 2


class NewerFormatError(ValuerecError):
    """A folder says that a newer valuerec wrote it: nothing else in it can be judged."""
