"""Errors of commands: exceptions whose text is printed for the person who typed the command."""


class CommandFailed(Exception):
    """A check or an action that failed. The text states what was found, what was expected and the next step."""

    exit_code = 1


class WrongUse(CommandFailed):
    """A command that was called in a way that cannot work; nothing was done."""

    exit_code = 2
