"""Names under localhost, which not every machine resolves by itself."""

import contextlib
import socket


@contextlib.contextmanager
def names_of_buckets():
    """Has names under localhost resolved."""
    resolve = socket.getaddrinfo

    def resolved(host, *rest, **more):
        return resolve("localhost" if str(host).endswith(".localhost") else host, *rest, **more)

    socket.getaddrinfo = resolved
    try:
        yield
    finally:
        socket.getaddrinfo = resolve
