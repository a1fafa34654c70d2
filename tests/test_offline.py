"""The suite itself: nothing in it can reach the network, in this process or in one that it starts."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading

import pytest

# 192.0.2.0/24 and 2001:db8::/32 are set aside for documentation: nobody answers there.
_ATTEMPTS = {
    "connect": "s.socket().connect(('192.0.2.1', 80))",
    "connect_ex": "s.socket().connect_ex(('192.0.2.1', 80))",
    "IPv6": "s.socket(s.AF_INET6).connect(('2001:db8::1', 80))",
    "datagram": "s.socket(s.AF_INET, s.SOCK_DGRAM).sendto(b'x', ('192.0.2.1', 53))",
    "name": "s.getaddrinfo('example.org', 80)",
    "old name": "s.gethostbyname('example.org')",
    "http": "__import__('urllib.request').request.urlopen('http://192.0.2.1/', timeout=1)",
}


@pytest.mark.parametrize("attempt", _ATTEMPTS.values(), ids=_ATTEMPTS.keys())
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # the sockets are thrown away
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_reaching_out_is_refused(attempt):
    with pytest.raises(RuntimeError, match="without a network"):
        eval(attempt, {"s": socket})


def test_a_process_that_a_test_starts_is_refused_too():
    done = subprocess.run(
        [sys.executable, "-c", f"import socket as s\n{_ATTEMPTS['connect']}"], capture_output=True, text=True
    )

    assert done.returncode == 1
    assert "NetworkRefused" in done.stderr


def test_loopback_and_sockets_in_files_are_allowed(tmp_path):
    for family, address in ((socket.AF_INET, ("127.0.0.1", 0)), (socket.AF_UNIX, str(tmp_path / "s"))):
        with socket.socket(family) as server, socket.socket(family) as client:
            server.bind(address)
            server.listen()
            answer = threading.Thread(target=lambda: server.accept()[0].close())
            answer.start()
            client.connect(server.getsockname())
            answer.join()
    assert socket.getaddrinfo("localhost", 80)
