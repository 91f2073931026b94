"""Damage as it happens to files: cut short, bits flipped, bytes overwritten, inserted or doubled; the same for the same seed."""

import io
import random
import zipfile
import zlib
from collections.abc import Iterator


def mutations(data: bytes, count: int, seed: int = 0) -> Iterator[bytes]:
    """`count` damaged copies; the first ones are empty, cut in half and cut by a byte."""
    draw = random.Random(seed)
    yield from (data[:0], data[: len(data) // 2], data[:-1])
    for _ in range(count - 3):
        copy = bytearray(data)
        for _ in range(draw.choice((1, 1, 2, 5))):
            at, length = draw.randrange(len(copy)), draw.choice((1, 1, 4, 40))
            copy[at : at + draw.choice((0, length))] = draw.choice(
                (
                    bytes([copy[at] ^ 1 << draw.randrange(8)]),
                    draw.randbytes(length),
                    b"\xff" * length,
                    b"-9" * length,
                    b"",
                    copy[:at],
                )
            )
            if not copy:
                break
        yield bytes(copy)


def with_crc(data: bytes) -> bytes:
    """A damaged delta whose length and checksum are right again."""
    body = bytearray(data[:-4])
    body[12:16] = (len(body) + 4).to_bytes(4, "little")
    return bytes(body) + zlib.crc32(body).to_bytes(4, "little")


def inside_zip(data: bytes, count: int, seed: int = 0) -> Iterator[bytes]:
    """Damaged copies of a zip archive whose own checksums are right: one member of each is damaged."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    draw = random.Random(seed)
    for number in range(count):
        name = draw.choice(list(members))
        *_, damaged = mutations(members[name], 4, seed=number)
        content = io.BytesIO()
        with zipfile.ZipFile(content, "w") as archive:
            for member, inner in (members | {name: damaged}).items():
                archive.writestr(member, inner)
        yield content.getvalue()
