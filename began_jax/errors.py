"""Errors that end the program with their message alone, without a traceback."""


class UserError(Exception):
    """Something its user can mend; the message says what, which value, and what is allowed."""

    exit_status = 2  # 1 is what Python exits with after an uncaught exception


def one_line(error: Exception) -> str:
    """An error's text with line breaks and runs of spaces made single spaces."""
    return " ".join(str(error).split())
