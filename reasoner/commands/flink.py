"""`reasoner flink`: what a Flink cluster needs for the jobs of this package."""

from pathlib import Path
from typing import Annotated

import typer

from reasoner.commands.shared import group
from reasoner.extras import require

app = group("Make what a Flink cluster needs: a jar for its dashboard, a configuration folder.", "reasoner flink jar")


@app.command()
def jar(
    file: Annotated[Path, typer.Argument(help="File to write.")] = Path("metric-reasoner.jar"),
) -> None:
    """Write the jar that a person uploads under "Submit New Job" in Flink's dashboard, and print its path.

    It has a manifest alone, which names PythonDriver. The program arguments say what runs: `-pym jobs.insights --config
    FILE`, with a file on the JobManager. Its image needs this package.

    Example: reasoner flink jar

    Exit codes: 0 ok, 1 the file cannot be written, 2 wrong use.
    """
    from reasoner.clients.flink_jars import thin_jar

    file.write_bytes(thin_jar())
    print(file)


@app.command()
def dashboard(
    flink_home: Annotated[Path, typer.Option(help="FLINK_HOME of the JobManager; the jar goes into its `lib`.")],
) -> None:
    """Write a jar with which the dashboard of Flink 2.2.1 sends program arguments, and print its path.

    Flink's own page sends them under a name that Flink 2 ignores. `reasoner setup` has done this for its FLINK_HOME.

    Example: reasoner flink dashboard --flink-home /opt/flink

    Exit codes: 0 ok, 1 it is another Flink, or the file cannot be written, 2 wrong use.
    """
    from reasoner.stack.dashboard_page import write

    print(write(flink_home))


@app.command()
def conf(
    use: Annotated[str, typer.Argument(help="session, application or local.")],
    to: Annotated[Path, typer.Option(help="Folder to write, for FLINK_CONF_DIR; files of these names are replaced.")],
) -> None:
    """Write a configuration folder of Flink: its own files, with the settings of flink-conf over them.

    Example: reasoner flink conf session --to /opt/flink/conf

    Exit codes: 0 ok, 1 the folder cannot be written, 2 wrong use.
    """
    require("job", "reasoner flink conf")
    from reasoner.stack.flink_conf import use_named, write

    write(to, [use_named(use)], {})
    print(to)
