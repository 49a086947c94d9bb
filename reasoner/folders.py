"""Folders of the project: the checkout, what the setup fills, and what the commands write."""

import hashlib
import os
from importlib.metadata import version
from pathlib import Path
from typing import Final

_HOME: Final = Path(__file__).resolve().parents[1]  # of the packages: a checkout, or site-packages


def checkout() -> Path | None:
    """Return the folder of the repository from which this package runs; None for an installed package."""
    return _HOME if (_HOME / "locks" / "job.txt").exists() else None


def tools() -> Path:
    """Return the folder that the setup fills; REASONER_TOOLS names another one (an image built elsewhere).

    It is `.tools` of the checkout. For an installed package it is a folder of the cache that this version in this
    Python environment has for itself, because FLINK_HOME has links to the jars of the apache-flink package.
    """
    if given := os.environ.get("REASONER_TOOLS"):
        return Path(given).expanduser().resolve()
    if root := checkout():
        return root / ".tools"
    place = hashlib.sha256(str(_HOME).encode()).hexdigest()[:8]
    return _xdg("CACHE", ".cache") / f"{version('metric-reasoner')}-{place}"


def flink_conf() -> Path:
    """Return the folder of Flink's settings: `flink-conf` of the checkout, or that of the installed package."""
    return (checkout() or _HOME / "reasoner") / "flink-conf"


def run_folder() -> Path:
    """Return where the stack writes if no folder is named: `.run` of the checkout, else of the user's state folder.

    It does not depend on the working directory, so that `reasoner stack down` finds what runs.
    """
    root = checkout()
    return root / ".run" if root else state_folder() / "run"


def state_folder() -> Path:
    """Return the folder of what the commands remember for this user: `$XDG_STATE_HOME/metric-reasoner`."""
    return _xdg("STATE", ".local/state")


def _xdg(kind: str, default: str) -> Path:
    return Path(os.environ.get(f"XDG_{kind}_HOME") or Path.home() / default) / "metric-reasoner"
