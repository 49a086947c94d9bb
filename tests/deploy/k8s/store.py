"""Where a job keeps its state and tables: the stack's S3."""

from pathlib import Path
from typing import Any, Final

from reasoner.stack import StackSettings

STATE: Final = "s3://flink/insights"


def flink_options(settings: StackSettings) -> dict[str, str]:
    """Return the options by which Flink in a pod finds the store."""
    return {
        "s3.endpoint": settings.s3_url,
        "s3.path.style.access": "true",
        # This server refuses to delete the markers of folders, with a warning for each file.
        "s3.directory.marker.retention": "keep",
    }


def lake_settings(settings: StackSettings, credentials: Path | str) -> dict[str, Any]:
    """Return the settings of the lake for the store. credentials: file of the keys where the job runs."""
    return {
        "warehouse": "s3://warehouse/insights",
        "s3": {"endpoint": settings.s3_url, "credentials_file": str(credentials)},
    }
