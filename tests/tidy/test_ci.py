"""Every place that runs the checks runs the same ones: README, .ci/run, the workflow, the hooks and the Makefile."""

from typing import Any

import yaml

from tests.tidy.rules import ROOT


def text_of(path: str) -> str:
    return (ROOT / path).read_text()


def workflow() -> Any:
    return yaml.safe_load(text_of(".github/workflows/ci.yml"))


def commands_of(job: str) -> list[str]:
    return [step["run"] for step in workflow()["jobs"][job]["steps"] if "run" in step]


def recipe_of(target: str) -> list[str]:
    """Return the command lines of a target of the Makefile, without the `@` of silent ones."""
    _, _, rest = text_of("Makefile").partition(f"\n{target}:")
    lines = rest.partition("\n\n")[0].splitlines()[1:]
    return [line.strip().removeprefix("@").replace("$(BIN)", ".venv/bin") for line in lines]


def test_readme_ci_and_workflow_run_one_test_command() -> None:
    assert "\nmake test " in text_of("README.md")
    assert text_of(".ci/run").splitlines()[-1] == "exec make test"
    assert commands_of("test") == ["make setup", "make test"]


def test_the_nightly_run_calls_targets_of_the_makefile() -> None:
    targets = workflow()["jobs"]["nightly"]["strategy"]["matrix"]["target"]
    assert targets == ["explore", "mutants", "fuzz", "docs", "test-wheel"]
    assert all(recipe_of(target) for target in targets)


def test_the_hooks_are_the_tools_of_make_check() -> None:
    (repository,) = yaml.safe_load(text_of(".pre-commit-config.yaml"))["repos"]
    assert [hook["entry"] for hook in repository["hooks"]] == recipe_of("check")[:-1]  # the last one is pytest
