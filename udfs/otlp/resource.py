"""Reading of the source of telemetry: resource attributes in, a `Resource` out.

Names follow the OpenTelemetry semantic conventions 1.44; current names come before older ones.
"""

from collections.abc import Iterable, Mapping
from hashlib import blake2b
from ipaddress import ip_address
from types import MappingProxyType
from typing import Final

import msgspec

from state_schemas.telemetry.resource import Resource

__all__ = ["ALIASES", "NAME_CHARS_MAX", "VALUE_CHARS_MAX", "resource_of", "short_name"]

# Characters of the longest name that is not cut. Deploy ids and stack traces in a name cannot grow keys and state
# beyond it.
NAME_CHARS_MAX: Final = 256
# Characters of an attribute's value that conditions of rules read: a command line or a query, but no document.
VALUE_CHARS_MAX: Final = 4_096
_HASH_BYTES: Final = 8

# Field of `Resource` -> attributes that may contain it, in order of preference; the first non-empty value is taken.
ALIASES: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "env": ("deployment.environment.name", "deployment.environment"),
        # No fallback to `k8s.namespace.name`: some sources of a service have it and others do not, and an identity that
        # differs by source would divide the service.
        "namespace": ("service.namespace",),
        "site_id": ("site.id", "site_id", "cloud.availability_zone", "cloud.zone", "cloud.region", "k8s.cluster.name"),
        # The name of a container is often only its role in the pod ("server", "app"), so it comes last.
        "service": (
            "service.name",
            "k8s.deployment.name",
            "k8s.statefulset.name",
            "k8s.daemonset.name",
            "k8s.cronjob.name",
            "k8s.job.name",
            "faas.name",
            "k8s.container.name",
            "container.name",
        ),
        # The unit that an operator drains or reboots: machine, then pod, then process. In Kubernetes the machine is the
        # node, and `host.name` is often the pod's name or IP address; the address is used only without a pod name.
        "host": (
            "k8s.node.name",
            "host.name",
            "host.id",
            "k8s.pod.name",
            "service.instance.id",
            "k8s.pod.uid",
            "container.id",
        ),
        "container": ("k8s.container.name", "container.name"),
        # A digest identifies exactly one image. The tag is appended to `container.image.name`, see `_image`.
        "image": ("container.image.repo_digests", "container.image.name", "container.image.id"),
        "version": ("service.version", "container.image.tags", "container.image.tag"),
    }
)
UNKNOWN_HOST: Final = "unknown_host"
_FALLBACKS: Final = {"env": "default", "service": "unknown_service", "host": UNKNOWN_HOST}
_TAGS: Final = ("container.image.tags", "container.image.tag")


def resource_of(attributes: Mapping[str, str], asked: Iterable[str] = ()) -> Resource:
    """Return the resource of these attributes. asked: names, ascending, of attributes that it keeps as they are.

    Values are texts as `udfs.otlp.protobuf` writes them; of a JSON array the first element is taken. Every field
    is cleaned: control characters become spaces, and a value longer than NAME_CHARS_MAX characters is cut, with a hash
    of the complete value at its end that distinguishes two long names. '|' in env, namespace and service, and '/' in
    namespace, become '_', because they join the parts of keys and names.
    """
    found = {field: _first(attributes, names) or _FALLBACKS.get(field, "") for field, names in ALIASES.items()}
    found["image"] = _image(attributes)
    if _is_address(found["host"]):
        found["host"] = attributes.get("k8s.pod.name", "").strip() or found["host"]
    for field in ("env", "namespace", "service"):
        found[field] = found[field].replace("|", "_")
    found["namespace"] = found["namespace"].replace("/", "_")
    clean = {field: clean_name(value) or _FALLBACKS.get(field, "") for field, value in found.items()}
    kept = tuple((name, attributes[name][:VALUE_CHARS_MAX]) for name in asked if name in attributes)
    return Resource(**clean, attributes=kept)


def _first(attributes: Mapping[str, str], names: tuple[str, ...]) -> str:
    """Return the first value that is not empty, "" if all are empty."""
    return next((value for name in names if (value := _element(attributes.get(name, "")))), "")


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def _element(text: str) -> str:
    """Return the first element of a JSON array, or any other text unchanged, both without outer blanks."""
    text = text.strip()
    if not text.startswith("["):
        return text
    try:
        elements = msgspec.json.decode(text, type=list[str])
    except (msgspec.DecodeError, RecursionError):  # a plain name that begins with "["
        return text
    return elements[0].strip() if elements else ""


def _image(attributes: Mapping[str, str]) -> str:
    """Return the name of the image: its digest, else its name with tag, else its id."""
    digest, name, image_id = (_element(attributes.get(key, "")) for key in ALIASES["image"])
    tag = _first(attributes, _TAGS)
    # A colon after the last slash separates a tag that is already in the name; before it, the port of a registry.
    if name and tag and ":" not in name.rpartition("/")[2]:
        name = f"{name}:{tag}"
    return digest or name or image_id


def clean_name(value: str) -> str:
    """Replace control characters by spaces, remove outer blanks, and cut the value."""
    if not value.isprintable():
        value = "".join(c if c.isprintable() or not _is_control(c) else " " for c in value)
    return short_name(value.strip())


def short_name(name: str) -> str:
    """Return the name if it is short enough for keys and state; else its start with a hash that distinguishes names."""
    if len(name) <= NAME_CHARS_MAX:
        return name
    mark = blake2b(name.encode(), digest_size=_HASH_BYTES).hexdigest()
    return f"{name[: NAME_CHARS_MAX - len(mark) - 1]}~{mark}"


def _is_control(character: str) -> bool:
    """Return whether a character is C0, DEL, C1, or a line or paragraph separator.

    The separators end a line in logs and terminals.
    """
    code = ord(character)
    return code < 0x20 or 0x7F <= code <= 0x9F or code in (0x2028, 0x2029)
