"""Refuses every connection but to this machine, in the tests' process and in the Python processes that they start.

`tests/conftest.py` loads this file and puts its folder on PYTHONPATH, where a new interpreter imports it by itself.
An audit hook sees all sockets of the interpreter, whoever opens them. Clients written in C are beyond it.
"""

import ipaddress
import socket
import sys

LOCAL_NAMES = frozenset(
    {"", "localhost", "ip6-localhost", "localhost.localdomain", "0.0.0.0", "::", socket.gethostname()}
)


class NetworkBlocked(ConnectionRefusedError):
    """A test tried to reach another machine."""


def is_local(host: object) -> bool:
    """Tell whether `host` (a name or an address, str or bytes or None) is this machine."""
    if host is None:
        return True
    name = host.decode() if isinstance(host, bytes) else str(host)
    if name in LOCAL_NAMES:
        return True
    try:
        return ipaddress.ip_address(name.split("%")[0]).is_loopback
    except ValueError:
        return False


def refuse_other_machines(event: str, args: tuple) -> None:
    """Audit hook: raise for a name or an address that is not of this machine."""
    if event == "socket.getaddrinfo":
        host = args[0]
    elif event in {"socket.connect", "socket.sendto", "socket.sendmsg"}:
        address = args[1]
        if not isinstance(address, tuple):  # a unix socket's path, or none at all on a connected socket
            return
        host = address[0]
    else:
        return
    if not is_local(host):
        raise NetworkBlocked(f"tests reach no other machine: {event} {host!r}")


def install() -> None:
    """Add the hook once to this interpreter; it cannot be taken away again."""
    if not getattr(sys, "_nbops_no_network", False):
        sys._nbops_no_network = True
        sys.addaudithook(refuse_other_machines)


install()
