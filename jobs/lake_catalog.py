"""Options of the Iceberg catalog in Flink's SQL: settings in, the options of CREATE CATALOG out."""

from collections.abc import Mapping
from typing import Final

from jobs.secret_names import has_secret
from state_schemas.contracts.settings import S3, Catalog, Lake

_CATALOGS: Final[Mapping[Catalog, str]] = {
    "jdbc": "org.apache.iceberg.jdbc.JdbcCatalog",
    "rest": "org.apache.iceberg.rest.RESTCatalog",
    "glue": "org.apache.iceberg.aws.glue.GlueCatalog",
}


def catalog_options(lake: Lake) -> dict[str, str]:
    """Return the options of CREATE CATALOG, secrets included; `lake.properties` override them.

    Raises BadConfig where a file of a secret cannot be read.
    """
    options = {"type": "iceberg", "warehouse": lake.warehouse, **lake.shared_properties()}
    if lake.catalog != "glue":
        options["uri"] = lake.uri
    if lake.catalog == "jdbc":
        options |= {"jdbc.schema-version": "V1", "jdbc.user": lake.user, "jdbc.password": lake.password()}
    return {name: value for name, value in options.items() if value} | lake.properties | classes(lake)


def without_secrets(text: str, options: Mapping[str, str]) -> str:
    """Return a text of Flink in which no secret of these options of a catalog stands."""
    named = {value for name, value in options.items() if has_secret(name)}
    # The longest first: it may contain another one.
    for secret in sorted(named - {""}, key=len, reverse=True):
        text = text.replace(secret, "******")
    return text


def classes(lake: Lake) -> dict[str, str]:
    """Return the classes that Iceberg loads by name, by option."""
    found = {"catalog-impl": _CATALOGS[lake.catalog]}
    if lake.warehouse.startswith("s3://") or lake.s3 != S3():
        # Without it Iceberg takes Hadoop's file systems, which do not know s3://.
        found["io-impl"] = "org.apache.iceberg.aws.s3.S3FileIO"
    return {name: lake.properties.get(name, value) for name, value in found.items()}
