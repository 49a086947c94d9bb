"""`reasoner setup`: prepare Kafka and Flink for this Python environment, and what runs beside them."""

from typing import Annotated

import typer

from reasoner.extras import require
from reasoner.folders import tools
from reasoner.stack.environment import prepare
from reasoner.stack.running import OPTIONAL

app = typer.Typer(help="Prepare Kafka and Flink for this Python environment: jars by hash, and FLINK_HOME.")


@app.command()
def setup_command(
    parts: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[PART]...", help=f"Parts of `reasoner stack up --with`: {', '.join(OPTIONAL)}.", show_default=False
        ),
    ] = None,
) -> None:
    """Prepare Kafka and Flink for this Python environment, or a part beside them. A second run does nothing.

    Needs a JDK 17 or 21 and Maven, and says how to install them. Maven downloads the jars of Kafka and of Flink's
    connectors (165 MB), each is compared with its SHA-256, and FLINK_HOME is made of them and the jars of apache-flink.
    All is in a folder of this environment under ~/.cache/metric-reasoner; $XDG_CACHE_HOME moves it, and REASONER_TOOLS
    names the folder itself. In a checkout it is `make setup`.

    The part s3 builds the S3 server with Go and adds the jars for s3:// and AWS (95 MB) to FLINK_HOME; redis finds
    Redis, or installs it as root by apt; prometheus unpacks the distribution's package. alertmanager and, in a checkout
    only, collector are built with Go, in 4 to 10 minutes each the first time.

    Example: reasoner setup s3 redis

    Exit codes: 0 ok, 1 something is missing or could not be downloaded, 2 wrong use.
    """
    require("job", "reasoner setup")
    prepare(parts or ())
    print(tools())
