"""`reasoner setup`: prepare Kafka and Flink for this Python environment."""

import typer

from reasoner.extras import require
from reasoner.folders import tools
from reasoner.stack.environment import prepare

app = typer.Typer(help="Prepare Kafka and Flink for this Python environment: jars by hash, and FLINK_HOME.")


@app.command()
def setup_command() -> None:
    """Prepare Kafka and Flink for this Python environment. A second run does nothing.

    Needs a JDK 17 or 21 and Maven, and says how to install them. Maven downloads the jars of Kafka and of Flink's
    connectors (165 MB), each is compared with its SHA-256, and FLINK_HOME is made of them and the jars of apache-flink.
    All is in a folder of this environment under ~/.cache/metric-reasoner; $XDG_CACHE_HOME moves it, and REASONER_TOOLS
    names the folder itself. In a checkout it is `make setup`.

    Example: reasoner setup

    Exit codes: 0 ok, 1 something is missing or could not be downloaded, 2 wrong use.
    """
    require("job", "reasoner setup")
    prepare()
    print(tools())
