"""Boards of Grafana from their descriptions: each FOLDER/NAME.yaml becomes FOLDER/dashboards/NAME.json.

Run by `make boards`, in an environment that has Grafana's types; the argument is another folder to write into.
"""

import sys
from itertools import count
from pathlib import Path
from typing import Any, Final

import yaml
from grafana_foundation_sdk.builders import common, dashboard, prometheus, stat, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.common import LegendDisplayMode, LegendPlacement
from grafana_foundation_sdk.models.dashboard import DataSourceRef, VariableOption, VariableRefresh, VariableSort

FOLDER: Final = Path(__file__).parent
# Host metrics may be in another store than those of the job: that of provisioning/datasources.yaml, where there is one.
SOURCES: Final = {
    "metrics": dashboard.DatasourceVariable("metrics").label("Metrics").type("prometheus"),
    "hosts": dashboard.DatasourceVariable("hosts")
    .label("Host metrics")
    .type("prometheus")
    .current(VariableOption(text="Mimir", value="mimir")),
}
# Of the 24 columns of a board: numbers four beside each other, diagrams two.
NUMBER_COLUMNS, DIAGRAM_COLUMNS = 6, 12
NUMBER_ROWS, DIAGRAM_ROWS = 4, 8


def board(name: str, description: dict[str, Any]) -> dashboard.Dashboard:
    """Return the board with its variables: the sources of its metrics, and the jobs that it shows."""
    made = (
        dashboard.Dashboard(description["title"])
        .uid(f"metric-reasoner-{name}")
        .tags(["metric-reasoner"])
        .time("now-3h", "now")
        .refresh("30s")
        .editable()
        .with_variable(SOURCES["metrics"])
        .with_variable(choice("Namespace", "label_values(flink_jobmanager_job_uptime, namespace)"))
        .with_variable(choice("Job", 'label_values(flink_jobmanager_job_uptime{namespace=~"$namespace"}, job_name)'))
        .with_variable(SOURCES["hosts"])
    )
    ids = count(1)
    for row in description["rows"]:
        made = made.with_row(dashboard.Row(row["title"]).id(next(ids)))
        for panel in row["panels"]:
            made = made.with_panel((number(panel) if panel.get("number") else diagram(panel)).id(next(ids)))
    return made


def choice(label: str, values: str) -> dashboard.QueryVariable:
    """Return a variable of several values; all of them also where there is none."""
    return (
        dashboard.QueryVariable(label.lower())
        .label(label)
        .datasource(source("metrics"))
        .query(values)
        .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(VariableSort.ALPHABETICAL_ASC)
        .multi(True)
        .include_all(True)
        .all_value(".*")
    )


def source(variable: str) -> DataSourceRef:
    """Return the source of data that a variable names."""
    return DataSourceRef(type_val="prometheus", uid=f"${{{variable}}}")


def number(panel: dict[str, Any]) -> stat.Panel:
    """Return a panel that shows the last value of each series."""
    return with_queries(stat.Panel().span(NUMBER_COLUMNS).height(NUMBER_ROWS), panel)


def diagram(panel: dict[str, Any]) -> timeseries.Panel:
    """Return a panel of lines over time, with the last and the largest value of each in a list below."""
    legend = (
        common.VizLegendOptions()
        .display_mode(LegendDisplayMode.TABLE)
        .placement(LegendPlacement.BOTTOM)
        .show_legend(True)
        .calcs(["lastNotNull", "max"])
    )
    made = timeseries.Panel().span(DIAGRAM_COLUMNS).height(DIAGRAM_ROWS).legend(legend).fill_opacity(10).min(0)
    return with_queries(made, panel)


def with_queries(made: Any, panel: dict[str, Any]) -> Any:
    """Return the panel with what both kinds have."""
    metrics = source(panel.get("source", "metrics"))
    made = made.title(panel["title"]).description(panel["description"]).unit(panel["unit"]).datasource(metrics)
    for number, query in zip(count(), panel["queries"]):
        target = prometheus.Dataquery().expr(query["promql"]).legend_format(query["legend"]).ref_id(chr(65 + number))
        made = made.with_target(target.datasource(metrics))
    return made


def main(folder: Path) -> None:
    """Write all boards into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in sorted(FOLDER.glob("*.yaml")):
        made = board(path.stem, yaml.safe_load(path.read_text())).build()
        (folder / f"{path.stem}.json").write_text(JSONEncoder(sort_keys=True, indent=1).encode(made) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER / "dashboards")
