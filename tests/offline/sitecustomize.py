"""Refuses the network to this Python process: everything but loopback and sockets that are files.

Python imports a module of this name at its start; `tests/conftest.py` puts the folder on PYTHONPATH, so that the
processes that tests start refuse it as well. An audit hook sees every attempt, whichever library makes it, and cannot
be taken away.
"""

import ipaddress
import sys


class NetworkRefused(RuntimeError):
    """A test tried to reach the network. It is no OSError, so that nobody takes it for a bad connection and goes on."""


def _is_local(host: object) -> bool:
    if isinstance(host, (bytes, bytearray)):
        host = bytes(host).decode("ascii", "replace")
    if host in (None, "", "localhost"):
        return True
    try:
        return ipaddress.ip_address(str(host).split("%")[0]).is_loopback
    except ValueError:
        return False  # a name that would have to be looked up


def refuse(event: str, arguments: tuple) -> None:
    """The audit hook."""
    if event in ("socket.connect", "socket.sendto", "socket.sendmsg"):
        address = arguments[1]
        # Addresses of the internet are tuples; those of files are text, those of connected sockets None.
        if isinstance(address, tuple) and address and isinstance(address[0], str) and not _is_local(address[0]):
            raise NetworkRefused(f"a test tried to reach {address[0]}: the suite must pass without a network")
    elif event in ("socket.getaddrinfo", "socket.gethostbyname") and not _is_local(arguments[0]):
        raise NetworkRefused(f"a test tried to look up {arguments[0]!r}: the suite must pass without a network")


sys.addaudithook(refuse)
