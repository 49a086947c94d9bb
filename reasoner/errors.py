"""The two ways a command ends badly, as exceptions that carry the sentence for the person who typed it."""

__all__ = ["CommandFailed", "WrongUse"]


class CommandFailed(Exception):
    """Something was found to be wrong. The text says what was found, what was expected and what to do next."""

    exit_code = 1


class WrongUse(CommandFailed):
    """The command was called in a way that cannot work; nothing was done."""

    exit_code = 2
