"""A worker for the tests whose decoder breaks, hangs or ends where a picture's bytes say so."""

import os
import signal
import sys
import time

import numpy as np

from winnow.data import worker
from winnow.data.decode import Decoded
from winnow.data.source import Unreadable


def decode(name, data, limits, fitting):
    if data.startswith(b"signal "):
        os.kill(os.getpid(), int(data.split()[1]))
    if data == b"hang":
        time.sleep(60)
    if data == b"exit":
        os._exit(3)
    if data == b"print":
        print("noise" * 100_000)
        print("noise" * 100_000, file=sys.stderr)
        os.write(1, b"noise")
    if data == b"broken":
        raise Unreadable("corrupt", f"{name}: \udcff")
    if data.startswith(b"wait "):
        time.sleep(float(data.split()[1]))
    number = int(data.split()[-1]) if data.split()[-1].isdigit() else 0
    return Decoded(np.full((2, 3, 1), number, np.uint8), ("odd",) if number == 7 else ())


def main(begun):
    worker.main(begun, decode)


SIGNALS = [signal.SIGSEGV, signal.SIGKILL]
