"""Requests to servers of this machine."""

from http.client import HTTPResponse
from urllib.request import ProxyHandler, Request, build_opener


def answer_of(request: str | Request, timeout_s: float) -> HTTPResponse:
    """Return the answer of a server on loopback; close it. Raises OSError (URLError, HTTPError) as urlopen does.

    `http_proxy` of the environment is not used: a proxy cannot reach this machine's loopback.
    """
    answer: HTTPResponse = build_opener(ProxyHandler({})).open(request, timeout=timeout_s)
    return answer
