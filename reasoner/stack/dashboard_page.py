"""The page "Submit New Job" of Flink's dashboard, corrected: Flink 2 ignores the program arguments that it sends.

The page names them as Flink 1 did (FLINK-39310). A jar in `lib` has all files of the dashboard (4 MB), the corrected
script among them, because Flink serves the files of one jar only: the first that has any.
"""

from pathlib import Path
from typing import Final
from zipfile import ZIP_DEFLATED, ZipFile

from reasoner.errors import CommandFailed

JAR: Final = "0-dashboard.jar"  # Flink's scripts put flink-dist last on the class path
# Words of the field, or text between double quotes, become the list that Flink 2 reads.
_SENT: Final = b"programArgs:a,"
_READ: Final = rb"""programArgsList:a?a.match(/"[^"]*"|\S+/g).map(w=>w.replace(/^"|"$/g,"")):null,"""


def write(flink_home: Path) -> Path:
    """Write the jar into `lib` of this Flink, and return its path.

    Raises CommandFailed where this is no folder of Flink, or the script is another one than that of 2.2.1; the folder
    is as before then.
    """
    distributions = list((flink_home / "lib").glob("flink-dist-*.jar"))
    if len(distributions) != 1:
        message = f"{flink_home}/lib has {len(distributions)} files flink-dist-*.jar, expected 1: give a FLINK_HOME"
        raise CommandFailed(message)
    (distribution,), path, changed = distributions, flink_home / "lib" / JAR, 0
    part = path.with_suffix(".part")  # no jar: half of one, first on the class path, would break the dashboard
    with ZipFile(distribution) as flink, ZipFile(part, "w", ZIP_DEFLATED) as jar:
        for entry in flink.infolist():
            if entry.filename.startswith("web/"):
                file = flink.read(entry)
                changed += file.count(_SENT)
                jar.writestr(entry, file.replace(_SENT, _READ))
    if changed != 1:
        part.unlink()
        message = (
            f"{distribution} has {_SENT.decode()!r} in {changed} places of its dashboard, expected 1 as in 2.2.1: "
            "submit by `reasoner submit --by rest`"
        )
        raise CommandFailed(message)
    return part.replace(path)
