"""Errors that end the program with their message alone, without a traceback."""


class UserError(Exception):
    """Something its user can mend; the message says what, which value, and what is allowed."""

    exit_status = 2  # 1 is what Python exits with after an uncaught exception
