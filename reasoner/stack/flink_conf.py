"""Configuration folders of Flink: its own files with those of `flink-conf` over them."""

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, Literal, get_args

import yaml

from reasoner.errors import WrongUse, nearest
from reasoner.folders import flink_conf

Use = Literal["session", "application", "local"]
USES: Final[tuple[Use, ...]] = get_args(Use)
_SECRETS: Final = ("# --- secrets ---", "# --- end of secrets ---")
_CONSOLE: Final = "log4j-console.properties"


def use_named(name: str) -> Use:
    """Return the use of this name. Raises WrongUse with the names that there are."""
    for use in USES:
        if use == name:
            return use
    message = f"unknown use {name!r}; {nearest(name, USES)}"
    raise WrongUse(message)


def settings(*uses: Use) -> dict[str, Any]:
    """Return the settings of uses by Flink's dotted keys: those of every cluster, then of each use, the last on top."""
    files = ("config.yaml", *(f"{use}.yaml" for use in uses))
    return {key: value for file in files for key, value in _read(flink_conf() / file).items()}


def write(folder: Path, uses: Sequence[Use], own: Mapping[str, Any]) -> None:
    """Write a folder for FLINK_CONF_DIR: Flink's own files, settings of the uses, and `own` settings over them."""
    folder.mkdir(parents=True, exist_ok=True)
    console = (flink_conf() / _CONSOLE).read_text()
    secrets = console.partition(_SECRETS[0])[2].partition(_SECRETS[1])[0]
    for path in _flinks_own().glob("*.properties"):
        (folder / path.name).write_text(console if path.name == _CONSOLE else path.read_text() + secrets)
    values = {**_read(_flinks_own() / "config.yaml"), **settings(*uses), **own}
    (folder / "config.yaml").write_text(yaml.safe_dump(values, width=10_000))


def _flinks_own() -> Path:
    """Return the folder `conf` of the package apache-flink."""
    package = find_spec("pyflink")
    assert package is not None, "apache-flink is not installed"
    assert package.submodule_search_locations is not None, "pyflink is a module, not a package"
    return Path(package.submodule_search_locations[0]) / "conf"


def _read(file: Path) -> dict[str, Any]:
    return _flat(yaml.safe_load(file.read_text()))


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested YAML as Flink's dotted keys, so that a key of ours replaces one of Flink's in either notation."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat
