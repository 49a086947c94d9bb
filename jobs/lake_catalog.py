"""Options of the Iceberg catalog in Flink's SQL: settings in, the options of CREATE CATALOG out."""

from collections.abc import Mapping
from typing import Final

from state_schemas.contracts.settings import S3, Catalog, Lake

_IMPLEMENTATIONS: Final[Mapping[Catalog, str]] = {
    "jdbc": "org.apache.iceberg.jdbc.JdbcCatalog",
    "rest": "org.apache.iceberg.rest.RESTCatalog",
    "glue": "org.apache.iceberg.aws.glue.GlueCatalog",
}


def catalog_options(lake: Lake) -> dict[str, str]:
    """Return the options of CREATE CATALOG, secrets included; `lake.properties` override them.

    Raises BadConfig where a file of a secret cannot be read.
    """
    options = {
        "type": "iceberg",
        "catalog-impl": _IMPLEMENTATIONS[lake.catalog],
        "warehouse": lake.warehouse,
        **lake.shared_properties(),
    }
    if lake.catalog == "jdbc":
        options |= {"jdbc.schema-version": "V1", "jdbc.user": lake.user, "jdbc.password": lake.password()}
    if lake.catalog != "glue":
        options["uri"] = lake.uri
    if lake.warehouse.startswith("s3://") or lake.s3 != S3():
        # Without it Iceberg takes Hadoop's file systems, which do not know s3://.
        options["io-impl"] = "org.apache.iceberg.aws.s3.S3FileIO"
    return {name: value for name, value in {**options, **lake.properties}.items() if value}
