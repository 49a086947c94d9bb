"""Files of generated secrets, readable for their owner alone."""

import os
from pathlib import Path


def write_secret(path: Path, text: str) -> None:
    """Write the text once: a file that exists stays as it is, because servers and jobs know what is in it.

    A reader sees a whole file or none, and at no moment can another user read it.
    """
    if path.exists():
        return
    part = path.with_suffix(".part")
    part.unlink(missing_ok=True)
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    part.replace(path)
