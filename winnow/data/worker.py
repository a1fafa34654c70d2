"""A process that decodes pictures for another one, so that what breaks a decoder costs one picture.

It is no module to import but a program: `workers.py` starts it and speaks with it through pipes.

- stdin: batches, eight bytes of length and a marshalled tuple each; its end ends the process.
- stdout: one answer a batch, eight bytes of length and `answered` below.
- a third pipe: one byte as each picture is begun, so that the other side knows which one never came to an end.
"""

from __future__ import annotations

import marshal
import os
import signal
import sys
from collections.abc import Callable
from hashlib import blake2b
from struct import Struct
from typing import BinaryIO

from winnow.data.decode import Decoded, Limits, examine
from winnow.data.fitting import Fitting
from winnow.data.source import Unreadable

READY = b"winnow"
LENGTH = Struct("<Q")
# Length of the text; height, width and channels of the pixels, no height: the picture is unreadable; height and width
# in the file, layout and content as in `Decoded`.
ANSWER = Struct("<IIIIIIBQ")

Picture = tuple[str, bytes]
"""A file's name ("" if it has none) and its content."""
Decoder = Callable[[str, bytes, Limits, Fitting], Decoded]


def decoded(name: str, data: bytes, limits: Limits, fitting: Fitting) -> Decoded:
    """One picture, decoded and fitted.

    Raises:
        Unreadable: it cannot be used.
    """
    found = examine(data, limits, name=name)
    height, width = found.pixels.shape[:2]
    content = int.from_bytes(blake2b(data, digest_size=8).digest(), "little")
    return Decoded(fitting(found.pixels), found.notes, (height, width), found.layout, content)


def answered(result: Decoded | Unreadable) -> list[bytes]:
    """A result as bytes: header, text, pixels. The text is the notes, or the fault's code and reason."""
    if isinstance(result, Unreadable):
        text = f"{result.code}\0{result.reason}".encode("utf-8", "backslashreplace")
        return [ANSWER.pack(len(text), 0, 0, 0, 0, 0, 0, 0), text]
    text = "\0".join(result.notes).encode()
    size = result.size or result.pixels.shape[:2]
    header = ANSWER.pack(len(text), *result.pixels.shape, *size, result.layout, result.content)
    return [header, text, result.pixels.tobytes()]


def serve(requests: BinaryIO, answers: BinaryIO, begun: int, decode: Decoder) -> None:
    """Answers batches until there are no more.

    Args:
        requests: where they come from.
        answers: where their answers go.
        begun: file descriptor that gets a byte as each picture is begun.
        decode: what to do with a picture.
    """
    answers.write(READY)
    answers.flush()
    while header := requests.read(LENGTH.size):
        (length,) = LENGTH.unpack(header)
        limits, fitting, pictures = marshal.loads(requests.read(length))
        limits, fitting = Limits(*limits), Fitting(*fitting)
        parts: list[bytes] = []
        for name, data in pictures:
            os.write(begun, b".")
            # Should the other side be gone while this picture hangs, nobody would end this process.
            signal.alarm(int(2 * limits.seconds) + 1)
            try:
                parts += answered(decode(name, data, limits, fitting))
            except Unreadable as fault:
                parts += answered(fault)
        signal.alarm(0)
        answers.write(LENGTH.pack(sum(map(len, parts))))
        answers.writelines(parts)
        answers.flush()


def main(begun: int, decode: Decoder = decoded) -> None:
    """Serves the process that started this one.

    Args:
        begun: see `serve`.
        decode: what to do with a picture.
    """
    # Whoever started this process ends it, also when a person presses Ctrl-C.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    requests, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    # Whatever a decoder prints must not come between the answers, nor fill a pipe that nobody reads.
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    try:
        serve(requests, answers, begun, decode)
    except BrokenPipeError:  # the other side is gone
        os._exit(0)
