"""Which options of Kafka's client and of Iceberg have a secret as their value."""

from typing import Final

# Ends of their names.
_ENDS: Final = ("password", "secret", "token", "credential", "authorization", "jaas.config", ".key", "-key")
_OF_AN_ACCOUNT: Final = "sas-token"  # the name of the account of Azure follows


def has_secret(option: str) -> bool:
    """Return whether the value of the option of this name is a secret; `header.Authorization` is one."""
    name = option.lower()
    return name.endswith(_ENDS) or _OF_AN_ACCOUNT in name
