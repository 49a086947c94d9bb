"""Client of an Iceberg REST catalog whose requests end, whatever the server does."""

from typing import Any, Final

from pyiceberg.catalog.rest import RestCatalog
from requests import PreparedRequest, Response, Session
from requests.adapters import HTTPAdapter

_LIMITS_S: Final = (5.0, 15.0)  # to connect; to wait for the next bytes of an answer


class BoundedRestCatalog(RestCatalog):
    """A REST catalog with limits of time: pyiceberg sets none, and a silent server would hold a command for ever."""

    def _config_headers(self, session: Session) -> None:
        # The first step of each session that pyiceberg makes, before it asks for a token.
        super()._config_headers(session)
        for scheme in ("http://", "https://"):
            session.mount(scheme, _Bounded())


class _Bounded(HTTPAdapter):
    def send(self, request: PreparedRequest, *args: Any, **options: Any) -> Response:
        return super().send(request, *args, **{**options, "timeout": options.get("timeout") or _LIMITS_S})
