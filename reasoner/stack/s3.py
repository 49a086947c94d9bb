"""An S3 server (versitygw) with the buckets of the lake and of Flink, on loopback; objects are kept between starts.

The keys stand in a file in the format of the tools of AWS, which all clients of S3 know.
"""

import configparser
import os
import secrets
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final

from reasoner.errors import CommandFailed, reason_of
from reasoner.stack.component import Component
from reasoner.stack.environment import s3_server
from reasoner.stack.secret_files import write_secret
from reasoner.stack.settings import LOOPBACK, StackSettings

BUCKETS: Final = ("warehouse", "flink")  # of tables; of checkpoints and savepoints
REGION: Final = "us-east-1"  # that of versitygw where none is given: keys are valid for one region
_PROFILE: Final = "default"


def s3(settings: StackSettings) -> Component:
    """Return the server."""
    return Component(
        name="s3",
        folder=_folder(settings),
        prepare=partial(_prepare, settings),
        command=lambda: [
            *(str(s3_server()), "--port", f"{LOOPBACK}:{settings.s3_port}", "--health", "/health", "--quiet"),
            *("posix", str(_folder(settings) / "data")),
        ],
        not_ready_because=partial(_not_ready_because, settings),
        environment=partial(_environment, settings),
        ports={"s3_port": settings.s3_port},
        endpoints={"s3": settings.s3_url, "s3_credentials": str(credentials_file(settings))},
    )


def credentials_file(settings: StackSettings) -> Path:
    """Return the file of the keys, a profile `default` in the format of AWS's own tools."""
    return _folder(settings) / "credentials"


def keys(settings: StackSettings) -> Mapping[str, str]:
    """Return the keys of the server: `aws_access_key_id` and `aws_secret_access_key`."""
    parser = configparser.ConfigParser(interpolation=None, default_section="")
    parser.read_string(credentials_file(settings).read_text())
    return parser[_PROFILE]


def flink_options(settings: StackSettings) -> dict[str, Any]:
    """Return the options by which Flink's file system finds this server; none without `flink_s3`.

    The keys are not among them: they would stand in Flink's configuration.
    """
    if not settings.flink_s3:
        return {}
    return {
        "s3.endpoint": settings.s3_url,
        # Buckets are folders of this server, not names below its own.
        "s3.path.style.access": "true",
        # An empty object stands for each folder. By default it is deleted when a file is written into the folder, one
        # more request for each file, which this server refuses with a warning in Flink's log.
        "s3.directory.marker.retention": "keep",
        # Environment, file of a profile, role of the machine; the default of this file system lacks the file.
        "s3.aws.credentials.provider": "com.amazonaws.auth.DefaultAWSCredentialsProviderChain",
    }


def flink_environment(settings: StackSettings) -> dict[str, str]:
    """Return the variables that name the file of the keys to Flink; none without `flink_s3`.

    Versions 1 (Flink's file system) and 2 of AWS's SDK call the file by different names.
    """
    names = ("AWS_CREDENTIAL_PROFILES_FILE", "AWS_SHARED_CREDENTIALS_FILE")
    return dict.fromkeys(names, str(credentials_file(settings))) if settings.flink_s3 else {}


def _folder(settings: StackSettings) -> Path:
    return settings.folder / "s3"


def _prepare(settings: StackSettings) -> None:
    folder = _folder(settings)
    data = folder / "data"
    data.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        os.setxattr(data, "user.reasoner", b"")
    except OSError as error:
        message = (
            f"the file system of {data} keeps no extended attributes ({reason_of(error)}), in which the S3 server "
            "keeps what is known of an object; choose another place with --folder"
        )
        raise CommandFailed(message) from error
    key, secret = secrets.token_hex(10).upper(), secrets.token_urlsafe(30)
    profile = f"[{_PROFILE}]\naws_access_key_id = {key}\naws_secret_access_key = {secret}\n"
    write_secret(credentials_file(settings), profile)


def _environment(settings: StackSettings) -> dict[str, str]:
    own = keys(settings)
    # Arguments of a process can be read by every user of the machine, its environment by its own user.
    names = {"ROOT_ACCESS_KEY": own["aws_access_key_id"], "ROOT_SECRET_KEY": own["aws_secret_access_key"]}
    return {**os.environ, **names}


def _not_ready_because(settings: StackSettings) -> str | None:
    """Return None when the server answers and has its buckets; create those that are missing."""
    from pyarrow.fs import AwsStandardS3RetryStrategy, S3FileSystem  # Slow to import.

    own = keys(settings)
    try:
        store = S3FileSystem(
            access_key=own["aws_access_key_id"],
            secret_key=own["aws_secret_access_key"],
            endpoint_override=settings.s3_url,
            region=REGION,
            connect_timeout=1.0,
            request_timeout=3.0,
            retry_strategy=AwsStandardS3RetryStrategy(max_attempts=1),
            allow_bucket_creation=True,
        )
        for bucket in BUCKETS:
            store.create_dir(bucket)
    except OSError as error:
        return f"no answer on {settings.s3_url} ({reason_of(error)})"
    return None
