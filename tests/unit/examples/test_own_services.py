"""The Collector of `deploy/collector` is the one that README describes; `make trial` runs it with the services."""

import yaml

from tests.support.readme import collector_block
from tests.tidy.rules import ROOT


def test_the_configuration_of_the_collector_has_the_exporter_of_readme() -> None:
    block = yaml.safe_load(collector_block())
    shipped = yaml.safe_load((ROOT / "deploy" / "collector" / "collector.yaml").read_text())
    assert block["exporters"] == shipped["exporters"]
    assert block["processors"] == {"batch": shipped["processors"]["batch"]}


def test_the_committed_modules_have_the_versions_of_the_builder_file() -> None:
    folder = ROOT / "deploy" / "collector"
    built, required = yaml.safe_load((folder / "builder.yaml").read_text()), (folder / "go.mod").read_text()
    entries = [
        entry["gomod"] for kind in ("extensions", "receivers", "processors", "exporters") for entry in built[kind]
    ]
    assert entries
    assert not [entry for entry in entries if f"\t{entry}\n" not in required]
