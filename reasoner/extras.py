"""Check of the optional dependencies (extras) that a command needs."""

from importlib.util import find_spec
from typing import Final, Literal

from reasoner.errors import WrongUse

# Extra -> a module that only this extra installs. `job` and `evaluation` include `local`.
_PROOF: Final = {"local": "typer", "job": "pyflink", "evaluation": "drain3"}


def require(extra: Literal["local", "job", "evaluation"], command: str) -> None:
    """Check that an extra is installed. Raises WrongUse with the command that installs it.

    command: the command as a person types it.
    """
    if find_spec(_PROOF[extra]) is None:
        way = f"pip install 'metric-reasoner[{extra}]', or `make setup` in a checkout"
        message = f"`{command}` needs the extra `{extra}`: {way}"
        raise WrongUse(message)
