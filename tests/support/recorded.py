"""Recordings beside the checkout; tests that need them are skipped where they are missing."""

from pathlib import Path
from typing import Final

DATA: Final = Path(__file__).resolve().parents[3] / "shared" / "data"
NEZHA: Final = DATA / "nezha-trainticket"
LOGHUB: Final = DATA / "loghub-2k"
