"""Resource attributes of a service: version, image, container and site of its newest records."""

from collections.abc import Iterable, Sequence
from functools import reduce

import numpy as np
from numpy.typing import NDArray

from state_schemas.telemetry.resource import Resource, ServiceInfo

__all__ = ["info_of", "merge_info", "newest_info", "ranked"]

_Ints = NDArray[np.int64]


def info_of(resource: Resource, at_ms: int) -> ServiceInfo:
    """Return the attributes of a record with this event time."""
    return ServiceInfo(
        version=resource.version,
        version_ms=at_ms if resource.version else 0,
        image=resource.image,
        image_ms=at_ms if resource.image else 0,
        container=resource.container,
        container_ms=at_ms if resource.container else 0,
        site_id=resource.site_id,
        site_id_ms=at_ms if resource.site_id else 0,
    )


def merge_info(infos: Iterable[ServiceInfo]) -> ServiceInfo:
    """Return each attribute of the newest record that has it, ties by value. Associative and commutative."""
    return reduce(_newest, set(infos))


def _newest(left: ServiceInfo, right: ServiceInfo) -> ServiceInfo:
    version_ms, version = max((left.version_ms, left.version), (right.version_ms, right.version))
    image_ms, image = max((left.image_ms, left.image), (right.image_ms, right.image))
    container_ms, container = max((left.container_ms, left.container), (right.container_ms, right.container))
    site_id_ms, site_id = max((left.site_id_ms, left.site_id), (right.site_id_ms, right.site_id))
    return ServiceInfo(version, version_ms, image, image_ms, container, container_ms, site_id, site_id_ms)


def newest_info(
    groups: int, group: _Ints, at_ms: _Ints, info_index: _Ints, infos: Sequence[tuple[str, ...]]
) -> list[ServiceInfo]:
    """Merge the attributes of the records of each group: `merge_info`, vectorised.

    groups: number of groups. group, at_ms, info_index: one element for each record. infos: (version, image, container,
    site_id); info_index is an index into it.
    """
    columns: list[list[str] | list[int]] = []
    for attribute in zip(*infos, strict=True):
        rank_of, values = ranked(attribute)
        rank = rank_of[info_index]
        newest = np.zeros(groups, np.int64)
        np.maximum.at(newest, group, np.where(rank > 0, at_ms * len(values) + rank, 0))
        newest_ms, newest_rank = np.divmod(newest, len(values))
        columns += [[values[rank] for rank in newest_rank.tolist()], newest_ms.tolist()]
    return list(map(ServiceInfo, *columns))


def ranked(values: Sequence[str]) -> tuple[_Ints, list[str]]:
    """Return the rank of each value among the distinct values, and these, ascending; "" always has rank 0."""
    distinct = sorted({"", *values})
    rank = {value: index for index, value in enumerate(distinct)}
    return np.array([rank[value] for value in values], np.int64), distinct
