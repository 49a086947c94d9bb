"""Servers that are not what a command expects: silent, closing, slow, or with answers of another program."""

import json
import socket
import socketserver
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread
from typing import Any

WEB_PAGE = "<!doctype html><title>Grafana</title>"
FLINK_1_20: Mapping[str, Any] = {
    "/jobs/overview": {"jobs": []},
    "/overview": {"taskmanagers": 1, "slots-total": 4, "slots-available": 4, "flink-version": "1.20.1"},
    "/jobmanager/config": [],
}


def silent(stack: ExitStack) -> str:
    """Return the port of a server that accepts and says nothing."""
    server = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
    return str(server.getsockname()[1])


def closing(stack: ExitStack) -> str:
    """Return the port of a server that closes each connection at once."""

    class Close(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            """Return: the connection is closed."""

    return _served(stack, socketserver.ThreadingTCPServer(("127.0.0.1", 0), Close))


def http(stack: ExitStack, answers: Mapping[str, Any], other: str = WEB_PAGE, status: int = 404) -> str:
    """Return the port of a server with these JSON answers; other paths get `other`."""

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found = answers.get(self.path)
            self.send_response(status if found is None else 200)
            self.end_headers()
            self.wfile.write((other if found is None else json.dumps(found)).encode())

        do_HEAD = do_PUT = do_POST = do_GET

        def log_message(self, format: str, *arguments: object) -> None:
            """Log nothing."""

    return _served(stack, ThreadingHTTPServer(("127.0.0.1", 0), Answer))


def slow(stack: ExitStack, address: str, delay_s: float) -> str:
    """Return the port of a way to the server at `address`, whose answers come delay_s later."""
    host, _, port = address.rpartition(":")
    over = Event()
    stack.callback(over.set)

    class Delay(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with socket.create_connection((host, int(port))) as there, suppress(OSError):
                Thread(target=_copy, args=(self.request, there, 0.0), daemon=True).start()
                self._back(there)

        def _back(self, there: socket.socket) -> None:
            while data := there.recv(1 << 16):
                if over.wait(delay_s):
                    return
                self.request.sendall(data)

    return _served(stack, socketserver.ThreadingTCPServer(("127.0.0.1", 0), Delay))


def _copy(source: socket.socket, sink: socket.socket, delay_s: float) -> None:
    with suppress(OSError):
        while data := source.recv(1 << 16):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)


def _served(stack: ExitStack, server: socketserver.ThreadingTCPServer | ThreadingHTTPServer) -> str:
    server.daemon_threads = True
    stack.enter_context(server)
    Thread(target=server.serve_forever, daemon=True).start()
    stack.callback(server.shutdown)
    return str(server.server_address[1])
