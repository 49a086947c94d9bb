"""Read who produced telemetry: resource attributes go in, a `Resource` comes out.

Names follow the OpenTelemetry semantic conventions 1.44; the names in force stand before the older ones.
"""

from collections.abc import Mapping
from hashlib import blake2b
from ipaddress import ip_address
from types import MappingProxyType
from typing import Final

import msgspec

from state_schemas.telemetry.resource import Resource

__all__ = ["ALIASES", "NAME_CHARS_MAX", "resource_of", "short_name"]

# The longest name that is kept whole. Deploy ids and stack traces in a name do not grow keys and state beyond it.
NAME_CHARS_MAX: Final = 256
_HASH_BYTES: Final = 8

# Field of `Resource` -> attributes that may say it, best first; the first with a non-empty value decides.
ALIASES: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "env": ("deployment.environment.name", "deployment.environment"),
        "site_id": ("site.id", "site_id", "cloud.availability_zone", "cloud.zone", "cloud.region", "k8s.cluster.name"),
        # A container's name is often only its role in the pod ("server", "app"): last.
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
        # What an operator drains or reboots: machine, then pod, then process. In Kubernetes the machine is the node,
        # and `host.name` is often the pod's name or IP address; the address counts only without a pod name.
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
        # A digest names exactly one image. `container.image.name` gets its tag appended, see `_image`.
        "image": ("container.image.repo_digests", "container.image.name", "container.image.id"),
        "version": ("service.version", "container.image.tags", "container.image.tag"),
    }
)
_FALLBACKS: Final = {"env": "default", "service": "unknown_service", "host": "unknown_host"}
_TAGS: Final = ("container.image.tags", "container.image.tag")


def resource_of(attributes: Mapping[str, str]) -> Resource:
    """Read a resource. Values are texts as `udfs.otlp.values.text_of` writes them (arrays: JSON, the first is taken).

    Every field is clean: control characters become a space, in env and service also '|' (it joins keys), and what is
    longer than NAME_CHARS_MAX characters is cut, with a hash of the whole at its end to keep two long names apart.
    """
    found = {field: _first(attributes, names) or _FALLBACKS.get(field, "") for field, names in ALIASES.items()}
    found["image"] = _image(attributes)
    if _is_address(found["host"]):
        found["host"] = attributes.get("k8s.pod.name", "").strip() or found["host"]
    for field in ("env", "service"):
        found[field] = found[field].replace("|", "_")
    clean = {field: _clean(value) or _FALLBACKS.get(field, "") for field, value in found.items()}
    return Resource(**clean)


def _first(attributes: Mapping[str, str], names: tuple[str, ...]) -> str:
    """Return the first value that is not empty, "" if none is."""
    return next((value for name in names if (value := _element(attributes.get(name, "")))), "")


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def _element(text: str) -> str:
    """Return the first element of a JSON array, any other text as it is, both without outer blanks."""
    text = text.strip()
    if not text.startswith("["):
        return text
    try:
        elements = msgspec.json.decode(text, type=list[str])
    except (msgspec.DecodeError, RecursionError):  # a plain name that only looks like an array
        return text
    return elements[0].strip() if elements else ""


def _image(attributes: Mapping[str, str]) -> str:
    """Name the image: digest, else name with its tag, else id."""
    digest, name, image_id = (_element(attributes.get(key, "")) for key in ALIASES["image"])
    tag = _first(attributes, _TAGS)
    # A colon after the last slash is a tag that stands in the name already; before it, it is a registry's port.
    if name and tag and ":" not in name.rpartition("/")[2]:
        name = f"{name}:{tag}"
    return digest or name or image_id


def _clean(value: str) -> str:
    """Replace control characters by spaces and cut, without outer blanks."""
    if not value.isprintable():
        value = "".join(c if c.isprintable() or not _is_control(c) else " " for c in value)
    return short_name(value.strip())


def short_name(name: str) -> str:
    """The name where it is short enough for keys and state; else its head, with a hash that tells two apart."""
    if len(name) <= NAME_CHARS_MAX:
        return name
    mark = blake2b(name.encode(), digest_size=_HASH_BYTES).hexdigest()
    return f"{name[: NAME_CHARS_MAX - len(mark) - 1]}~{mark}"


def _is_control(character: str) -> bool:
    """C0, DEL, C1, and the line and paragraph separators, which end a line in logs and terminals."""
    code = ord(character)
    return code < 0x20 or 0x7F <= code <= 0x9F or code in (0x2028, 0x2029)
