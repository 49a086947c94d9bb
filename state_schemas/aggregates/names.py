"""Names beyond a cardinality limit."""

from typing import Final

OTHER: Final = "other"  # hosts, operations and services beyond their limit
