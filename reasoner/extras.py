"""Check of the optional dependencies (extras) that a command needs."""

from importlib.util import find_spec
from typing import Final, Literal

from reasoner.errors import WrongUse
from reasoner.folders import checkout

Extra = Literal["local", "job", "evaluation", "sigma"]

# Extra -> a module that only this extra installs. The others include `local`.
_PROOF: Final = {"local": "typer", "job": "pyflink", "evaluation": "drain3", "sigma": "sigma"}
# Extra -> the requirements of its packages that do not hold (pyproject.toml), which pip alone cannot leave out.
_OVERRIDES: Final = {"job": "pyarrow>=18,<21", "evaluation": "cachetools>=5, jsonpickle>=3"}


def require(extra: Extra, command: str) -> None:
    """Check that an extra is installed. Raises WrongUse with the command that installs it.

    command: the command as a person types it.
    """
    if find_spec(_PROOF[extra]) is None:
        message = f"`{command}` needs the extra `{extra}`: {_way(extra)}"
        raise WrongUse(message)


def _way(extra: Extra) -> str:
    if root := checkout():
        return f"run `make setup` in {root}"
    package = f"'metric-reasoner[{extra}]'"
    if extra not in _OVERRIDES:
        return f"run `pip install {package}`"
    overrides = f"a file `overrides.txt` with {_OVERRIDES[extra]}"
    return f"run `uv pip install --override overrides.txt {package}` with {overrides}"
