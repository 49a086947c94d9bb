"""Recordings beside the checkout, which tests use where they are and skip where they are not."""

from pathlib import Path
from typing import Final

DATA: Final = Path(__file__).resolve().parents[3] / "shared" / "data"
NEZHA: Final = DATA / "nezha-trainticket"
LOGHUB: Final = DATA / "loghub-2k"
