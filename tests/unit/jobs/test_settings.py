"""Settings are validated once, at start, and the error names every fault."""

import json
from operator import attrgetter
from pathlib import Path
from typing import Any

import pytest
import yaml

from jobs.graph import JOBS, GraphConfig, stages
from jobs.settings import Detection, JobConfig, load
from jobs.shipped import SHIPPED as SHIPPED_RULES
from jobs.sinks import SHIPPED, rows_of
from operators.emission import EmissionConfig
from operators.ingest.name_admission import PreAggregateConfig
from operators.runtime.routing import routes
from state_schemas.contracts import settings
from state_schemas.contracts.settings import BadConfig, ReaderConfig
from udfs.rules.compiled import RuleIndex

LAKE = {"uri": "jdbc:sqlite:/tmp/catalog.db", "warehouse": "file:///tmp/warehouse"}


def _written(folder: Path, settings: object) -> Path:
    path = folder / "job.yaml"
    path.write_text(yaml.safe_dump(settings))
    return path


def test_only_the_lake_must_be_named(tmp_path: Path) -> None:
    assert load(_written(tmp_path, {"lake": LAKE})) == JobConfig.model_validate({"lake": LAKE})


def test_all_faults_are_in_one_message_with_place_and_value(tmp_path: Path) -> None:
    settings = {
        "lake": {"uri": "mysql://x", "warehouse": "file:///w"},
        "engine": {"parallelism": 0},
        "kafka": {"guarantee": "at-most-once", "out_of_order_ms": 1500},
        "typo": 1,
    }
    with pytest.raises(BadConfig) as caught:
        load(_written(tmp_path, settings))
    message = str(caught.value)
    assert "5 faults" in message
    assert message.splitlines()[1:-1] == [
        "  kafka.out_of_order_ms: found 1500: expected a multiple of 1000",
        "  kafka.guarantee: found 'at-most-once': expected 'exactly-once' or 'at-least-once'",
        "  lake.uri: found 'mysql://x': expected text that matches "
        "^(jdbc:(sqlite|postgresql):.+|https?://.+|glue:[a-z0-9-]+)$",
        "  engine.parallelism: found 0: expected more than 0",
        "  typo: unknown name; there are detection, engine, kafka, lake, links, name",
    ]


def test_a_misspelt_name_is_one_fault_with_the_intended_name(tmp_path: Path) -> None:
    with pytest.raises(BadConfig, match="1 fault, nothing was done") as caught:
        load(_written(tmp_path, {"lake": LAKE, "kafka": {"bootstrap_server": "kafka:9092"}}))
    assert "  kafka.bootstrap_server: unknown name; did you mean bootstrap_servers?\n" in str(caught.value)


@pytest.mark.parametrize(
    ("section", "value", "expected"),
    [
        ("engine", 4, "engine: found 4: expected names with values"),
        ("engine", {"parallelism": "two"}, "engine.parallelism: found 'two': expected a whole number"),
        ("detection", {"latency_floor_ms": "q"}, "detection.latency_floor_ms: found 'q': expected a number"),
        ("detection", {"lateness_ms": -1}, "detection.lateness_ms: found -1: expected at least 0"),
        ("kafka", {"bounded": "maybe"}, "kafka.bounded: found 'maybe': expected true or false"),
        ("kafka", {"out_of_order_ms": 100_000}, "kafka.out_of_order_ms: found 100000: expected at most 99000"),
        ("kafka", {"group_id": ""}, "kafka.group_id: found '': expected text that is not empty"),
        (
            "lake",
            LAKE | {"warehouse": "file://relative/x"},
            "lake.warehouse: found 'file://relative/x': "
            "expected file:///, s3://, s3a://, gs://, abfs:// with a name behind it",
        ),
        ("lake", {"uri": "jdbc:sqlite:x"}, "lake.warehouse: found nothing: expected a value, there is no default"),
    ],
)
def test_a_fault_names_the_expected_value_in_terms_of_the_file(
    tmp_path: Path, section: str, value: object, expected: str
) -> None:
    with pytest.raises(BadConfig) as caught:
        load(_written(tmp_path, {"lake": LAKE, section: value}))
    assert str(caught.value).splitlines()[1:-1] == [f"  {expected}"]


def test_a_reader_validates_its_own_sections_only(tmp_path: Path) -> None:
    """Catch a reader that fails on settings which only the job needs, and a job that does not validate them."""
    path = _written(tmp_path, {"lake": LAKE, "kafka": {"group_id": "a"}, "engine": {"parallelism": 0}, "detection": 1})
    read = settings.load(path, ReaderConfig)
    assert (read.kafka.group_id, read.lake.uri) == ("a", LAKE["uri"])
    with pytest.raises(BadConfig, match="2 faults"):
        load(path)


def test_a_file_that_is_not_there_or_not_yaml_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(BadConfig, match="No such file or directory; expected the YAML file"):
        load(tmp_path / "absent.yaml")
    broken = tmp_path / "broken.yaml"
    broken.write_text("lake: [")
    with pytest.raises(BadConfig, match=r"broken.yaml, line 1, column 8: is no YAML"):
        load(broken)


def test_an_empty_file_lacks_the_lake(tmp_path: Path) -> None:
    empty = tmp_path / "empty.yaml"
    empty.write_text("")
    with pytest.raises(BadConfig, match="lake: found nothing"):
        load(empty)


# A value other than the default of each setting of the section `detection`, and everywhere it must arrive.
REACHED: dict[str, tuple[object, tuple[str, ...]]] = {
    "lateness_ms": (7_000, ("fold.times.lateness_ms", "calls.lateness_ms", "emission.lateness_ms")),
    "future_max_ms": (8_000, ("fold.times.future_max_ms",)),
    "age_max_ms": (9_000, ("fold.times.age_max_ms",)),
    "services_max": (3, ("pre_aggregate.services_max",)),
    "envs_max": (2, ("pre_aggregate.envs_max",)),
    "hosts_max": (4, ("pre_aggregate.names.hosts_max", "latency.names.hosts_max")),
    "operations_max": (5, ("pre_aggregate.names.operations_max", "latency.names.operations_max")),
    "callees_max": (6, ("pre_aggregate.names.callees_max", "latency.names.callees_max")),
    "call_pair_ms": (9_000, ("calls.pair_ms",)),
    "latency_floor_ms": (60.0, ("latency.floor_ms",)),
    "masks": (("uuid", "number"), ("fold.masks.masks", "patterns.masks.masks")),
    "patterns_max": (11, ("patterns.patterns_max",)),
    "patterns_top": (12, ("patterns.top",)),
    "pattern_insights": (False, ("patterns.insights",)),
    "patterns_warm_minutes": (13, ("patterns.warm_minutes",)),
    "dead_letter_payload": (True, ("fold.payload_kept",)),
    "emit_when": ("final", ("emission.emit_when",)),
}


def test_every_setting_of_the_detection_has_a_place_where_it_must_arrive() -> None:
    """pattern_seeds and rules name files, shipped_rules means files: they have tests of their own."""
    assert {*REACHED, "pattern_seeds", "rules", "shipped_rules"} == set(Detection.model_fields)


@pytest.mark.parametrize("name", REACHED)
def test_settings_reach_the_machines(name: str) -> None:
    value, places = REACHED[name]
    graph = JobConfig.model_validate({"lake": LAKE, "detection": {name: value}}).graph()
    assert {place: attrgetter(place)(graph) for place in places} == dict.fromkeys(places, value)
    default = JobConfig.model_validate({"lake": LAKE}).graph()
    assert all(attrgetter(place)(default) != value for place in places)


def test_seeds_are_read_at_start_and_a_file_that_is_not_there_stops_it(tmp_path: Path) -> None:
    seeds = tmp_path / "seeds.txt"
    seeds.write_text("# known\nconnection to 10.0.0.1 was refused\n00112233445566aa\n")
    config = tmp_path / "job.yaml"
    config.write_text(f"lake: {json.dumps(LAKE)}\ndetection: {{pattern_seeds: {seeds}}}\n")
    assert len(load(config).graph().patterns.seeds) == 2
    seeds.unlink()
    with pytest.raises(BadConfig, match=r"pattern_seeds.*cannot be read.*expected a text file"):
        load(config)


def test_rules_are_read_at_start_and_one_with_a_fault_stops_it(tmp_path: Path) -> None:
    rules, config = tmp_path / "rules.yaml", tmp_path / "job.yaml"
    text = "id: a\nversion: 1\ntitle: t\nby: env\nwithin: 1m\nsteps: [{name: s, span: {status: error}}]\n"
    rules.write_text(text)
    config.write_text(f"lake: {json.dumps(LAKE)}\ndetection: {{rules: {rules}}}\n")
    graph = load(config).graph()
    assert graph.rules is not None
    assert [key.partition("#")[0] for key in graph.rules.index.rules] == ["a@1"]
    assert {"rule-signals", "sequences", "record-sequences"} <= {stage.uid for stage in JOBS["insights"].stages(graph)}
    assert graph.rules.index is graph.fold.rules
    part = JOBS["error-patterns"]
    found = {stage.uid for stage in part.stages(graph)}
    assert not {"rule-signals", "sequences"} & found, "a part of the job lacks the insights that rules need"
    routes(part.stages(graph), rows_of(SHIPPED), part.unused)
    rules.write_text(text.replace("status", "stauts"))
    with pytest.raises(BadConfig, match=r"rules.yaml:6: a: step s: stauts: .*did you mean status\?"):
        load(config)


def test_shipped_rules_are_in_a_job_that_asks_for_them_but_where_a_rule_of_the_same_id_is_its_own(
    tmp_path: Path,
) -> None:
    def found(**detection: object) -> RuleIndex | None:
        return JobConfig.model_validate({"lake": LAKE, "detection": detection}).rules

    assert found() is None
    by_default = found(shipped_rules=True)
    assert by_default is not None
    assert "restart-loop" in by_default.published
    assert "job-not-finished" not in by_default.published, "how long a job may take is known to its users"
    own = tmp_path / "own.yaml"
    own.write_text((SHIPPED_RULES / "restart-loop.yaml").read_text().replace("version: 1", "version: 7"))
    both = found(rules=own, shipped_rules=True)
    assert both is not None
    assert set(both.published) == set(by_default.published)
    assert [version.version for version in both.published["restart-loop"].versions] == [7]


def test_a_copy_with_other_rules_has_them_whatever_was_read_before(tmp_path: Path) -> None:
    text = "id: a\nversion: 1\ntitle: t\nby: env\nwithin: 1m\nsteps: [{name: s, span: {status: error}}]\n"
    for name in "ab":
        (tmp_path / f"{name}.yaml").write_text(text.replace("id: a", f"id: {name}"))
    config = JobConfig.model_validate({"lake": LAKE, "detection": {"rules": tmp_path / "a.yaml"}})
    assert config.rules is not None
    other = config.model_copy(update={"detection": Detection(rules=tmp_path / "b.yaml")})
    assert other.rules is not None
    assert (list(config.rules.published), list(other.rules.published)) == (["a"], ["b"])


def test_latency_alone_has_the_stages_of_the_whole_job() -> None:
    graph = JobConfig.model_validate({"lake": LAKE}).graph()
    whole = {stage.uid for stage in stages(graph)}
    part = {stage.uid for stage in JOBS["latency-spikes"].stages(graph)}
    assert part == {"pre-aggregate-traces", "call-pairs", "latency-spike"} <= whole


@pytest.mark.parametrize(
    ("part", "config"),
    [
        ("pre_aggregate", PreAggregateConfig(window_ms=60_000)),
        ("emission", EmissionConfig(lateness_ms=1)),
    ],
)
def test_machines_that_disagree_on_window_or_lateness_make_no_graph(part: str, config: Any) -> None:
    with pytest.raises(AssertionError, match="expected one of each"):
        GraphConfig(**{part: config})


@pytest.mark.parametrize(
    ("kafka", "engine", "is_refused"),
    [
        ({}, {}, False),
        ({"transaction_timeout_ms": 899_999}, {}, True),
        ({"outage_ms": 300_001}, {}, True),
        ({}, {"checkpoint_timeout_ms": 300_001}, True),
        ({}, {"checkpoint_interval_ms": 300_001}, True),
        ({"transaction_timeout_ms": 1_200_000}, {"checkpoint_timeout_ms": 450_000}, False),
        ({"transaction_timeout_ms": 1, "guarantee": "at-least-once"}, {}, False),
    ],
)
def test_a_transaction_outlives_two_checkpoints_and_an_outage(
    tmp_path: Path, kafka: dict[str, Any], engine: dict[str, Any], is_refused: bool
) -> None:
    path = _written(tmp_path, {"lake": LAKE, "kafka": kafka, "engine": engine})
    if not is_refused:
        load(path)
        return
    with pytest.raises(
        BadConfig, match=r"\n  kafka.transaction_timeout_ms: found \d+: expected at least \d+, the longer"
    ):
        load(path)


@pytest.mark.parametrize(
    ("key", "value", "instead"),
    [
        ("execution.checkpointing.timeout", "1 h", "set engine.checkpoint_timeout_ms instead"),
        ("python.execution-mode", "thread", r"remove it, .*docs/decisions/0003"),
    ],
)
def test_options_that_state_and_transactions_depend_on_have_one_place(
    tmp_path: Path, key: str, value: str, instead: str
) -> None:
    """Catch times that are not compared with the timeout of transactions, and a mode in which counters fail."""
    path = _written(tmp_path, {"lake": LAKE, "engine": {"flink": {key: value}}})
    with pytest.raises(BadConfig, match=f"engine.flink has {key}: {instead}"):
        load(path)
