"""Reading resources: which attribute decides each field, and names that are safe as parts of keys."""

from itertools import pairwise

import pytest

from state_schemas.telemetry.resource import Resource, ServiceName
from udfs.otlp.resource import ALIASES, NAME_CHARS_MAX, resource_of


def test_without_attributes_the_fallbacks_stand() -> None:
    assert resource_of({}) == Resource(env="default", service="unknown_service", host="unknown_host")


@pytest.mark.parametrize("field", sorted(ALIASES))
def test_each_field_takes_the_best_attribute_that_is_there(field: str) -> None:
    names = ALIASES[field]
    for better, worse in pairwise(names):
        assert getattr(resource_of({worse: "worse", better: "better"}), field).startswith("better")
    for name in names:
        assert getattr(resource_of({name: "only"}), field) == "only"


@pytest.mark.parametrize("field", sorted(set(ALIASES) - {"namespace"}))  # it has one attribute only
def test_an_empty_or_blank_value_is_no_value(field: str) -> None:
    better, worse = ALIASES[field][:2]
    assert getattr(resource_of({better: " ", worse: "worse"}), field) == "worse"


def test_a_pod_has_a_better_name_than_its_ip_address() -> None:
    recorded = {"host.name": "33.33.33.76", "k8s.pod.name": "ts-basic-5dc8-46997"}
    assert resource_of(recorded).host == "ts-basic-5dc8-46997"
    assert resource_of({"host.name": "33.33.33.76"}).host == "33.33.33.76"
    assert resource_of(recorded | {"host.name": "node-7"}).host == "node-7"


@pytest.mark.parametrize(
    ("attributes", "image"),
    [
        ({"container.image.name": "shop/cart", "container.image.tags": '["1.2","latest"]'}, "shop/cart:1.2"),
        ({"container.image.name": "shop/cart", "container.image.tag": "1.1"}, "shop/cart:1.1"),
        ({"container.image.name": "shop/cart:1.0", "container.image.tags": '["1.2"]'}, "shop/cart:1.0"),
        ({"container.image.name": "reg:5000/cart", "container.image.tags": '["1.2"]'}, "reg:5000/cart:1.2"),
        ({"container.image.name": "cart", "container.image.repo_digests": '["cart@sha256:ab"]'}, "cart@sha256:ab"),
        ({"container.image.tags": '["1.2"]'}, ""),
        ({"container.image.repo_digests": "[]", "container.image.id": "sha256:cd"}, "sha256:cd"),
    ],
)
def test_the_image_is_its_digest_or_its_name_with_a_tag(attributes: dict[str, str], image: str) -> None:
    assert resource_of(attributes).image == image


def test_the_version_is_the_services_own_before_its_images() -> None:
    assert resource_of({"container.image.tags": '["1.2","latest"]'}).version == "1.2"
    assert resource_of({"container.image.tags": '["1.2"]', "service.version": "2023.4"}).version == "2023.4"


def test_a_name_that_only_looks_like_an_array_is_a_name() -> None:
    assert resource_of({"service.name": "[legacy] cart"}).service == "[legacy] cart"
    assert resource_of({"service.name": "[" * 100_000}).service.startswith("[[[")


def test_env_and_service_cannot_break_a_joined_key() -> None:
    found = resource_of(
        {"deployment.environment.name": "a|b", "service.namespace": "n|/s", "service.name": "|", "host.name": "h|1"}
    )
    assert (found.env, found.namespace, found.service, found.host) == ("a_b", "n__s", "_", "h|1")


@pytest.mark.parametrize("namespace", ["", "shop"])
@pytest.mark.parametrize("name", ["cart", "a/b", "/cart", "shop/cart", ""])
def test_a_service_and_its_namespace_make_a_text_of_their_own(namespace: str, name: str) -> None:
    assert ServiceName.parse(str(ServiceName(namespace, name))) == ServiceName(namespace, name)
    assert str(ServiceName("", "cart")) == "cart"


@pytest.mark.parametrize("control", ["\x00", "\n", "\x1f", "\x7f", "\x85", "\u2028"])
def test_control_characters_become_spaces(control: str) -> None:
    found = resource_of({"service.name": f"a{control}b", "host.name": control})
    assert (found.service, found.host) == ("a b", "unknown_host")


def test_other_letters_stay() -> None:
    assert resource_of({"service.name": "购物车 é \u200d😀"}).service == "购物车 é \u200d😀"


def test_long_names_are_cut_and_stay_apart() -> None:
    whole = "x" * NAME_CHARS_MAX
    first, second = (resource_of({"service.name": whole + end}).service for end in ("1", "2"))
    assert resource_of({"service.name": whole}).service == whole
    assert len(first) == len(second) == NAME_CHARS_MAX
    assert first != second
    assert first == "x" * 239 + "~" + "214942b39bda7b2e"
