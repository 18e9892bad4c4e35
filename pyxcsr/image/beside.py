"""An index beside a stream's file: what one pass through it has found, so that the next one is not needed.

It is a cache, and believed only as far as it does no harm: if the file has another size, time of change, beginning or
end than when the index was made, or the index is not whole, or larger than one of such a file can be, it is left alone
and the stream is read. One that was forged can make up another guest, of bytes of the same stream, and do nothing else.

The file: magic, length and SHA-256 of what follows; the stream file's size, time of change (ns) and a SHA-256 of its
ends; the stream's version, the number of places and of chunks, the domain header; the places of records (type, offset,
length); each chunk as its number and 512 words (``pagemap``). All numbers are little-endian.
"""

from __future__ import annotations

import hashlib
import os
import stat
import struct
from array import array
from typing import IO, Optional

from pyxcsr.errors import InputError, StreamError
from pyxcsr.frames import PAGE_SIZE, PageType
from pyxcsr.image.contents import KEPT, Contents, Place
from pyxcsr.image.pagemap import CHUNK, KNOWN, PLACE_SHIFT, SLACK, PageMap
from pyxcsr.stream import format as fmt
from pyxcsr.stream.format import DomainType
from pyxcsr.stream.records import DomainHeader, decode, packed, words

SUFFIX = ".pyxcsr-index"
MAGIC = b"pyxcsr image index 1\n\0\0\0"
_ENDS = 1 << 16
_HEAD = struct.Struct("<24sQ32s")  # magic, bytes that follow, their SHA-256
_FACTS = struct.Struct("<QQ32sIII16s")  # size, mtime in ns, digest of the ends, version, places, chunks, domain header
_PLACE = struct.Struct("<IQI")
_CHUNK = struct.Struct(f"<Q{CHUNK * 8}s")
_FLAGS = bytes([0, *(KNOWN | kind for kind in PageType)])
_CHUNKS_END = fmt.PFN_LIMIT // CHUNK


def beside(path: str) -> str:
    """The index's name for a stream's file."""
    return path + SUFFIX


def encode(fd: int, began: os.stat_result, page_map: PageMap, contents: Contents) -> bytes:
    """The index of a stream's file. ``began``: its fstat() before it was read. Raises InputError if it has changed."""
    size, mtime, digest = _identity(fd)
    if _times(os.fstat(fd)) != _times(began):
        raise InputError("the file has changed while it was read: there can be no index of it", errno=0)
    counts = contents.version, len(contents.places), len(page_map.chunks)
    body = bytearray(_FACTS.pack(size, mtime, digest, *counts, contents.domain.encode()))
    for place in contents.places:
        body += _PLACE.pack(*place)
    for index in sorted(page_map.chunks):
        body += _CHUNK.pack(index, packed(page_map.chunks[index]))
    return _HEAD.pack(MAGIC, len(body), hashlib.sha256(body).digest()) + body


def load(fd: int, path: str) -> Optional[tuple[PageMap, Contents]]:
    """What the index beside a stream's file says, or None if there is none that is whole and of this file."""
    facts = os.fstat(fd)
    if path == "-" or not stat.S_ISREG(facts.st_mode):
        return None
    try:
        with open(beside(path), "rb", opener=_at_once) as file:
            body = _body(file, _most(facts.st_size))
            return None if body is None else _decoded(fd, memoryview(body))
    except (OSError, StreamError, struct.error):
        return None


def _at_once(name: str, flags: int) -> int:
    """Opens it without waiting for the writer of what may be a FIFO."""
    return os.open(name, flags | os.O_NONBLOCK)


def _most(size: int) -> int:
    """Bytes that the index of a file of ``size`` bytes can have: a record takes eight there, and so does a pfn."""
    return _FACTS.size + size // 8 * _PLACE.size + (SLACK + size) // (CHUNK * 8) * _CHUNK.size


def _body(file: IO[bytes], most: int) -> Optional[bytes]:
    facts = os.fstat(file.fileno())
    head = file.read(_HEAD.size) if stat.S_ISREG(facts.st_mode) else b""
    if len(head) < _HEAD.size:
        return None
    magic, length, digest = _HEAD.unpack(head)
    if magic != MAGIC or facts.st_size != _HEAD.size + length or length > most:
        return None
    body = file.read(length)
    return body if hashlib.sha256(body).digest() == digest else None


def _decoded(fd: int, body: memoryview) -> Optional[tuple[PageMap, Contents]]:
    size, mtime, digest, version, nr_places, nr_chunks, domain = _FACTS.unpack_from(body)
    if (size, mtime, digest) != _identity(fd) or version not in fmt.IMAGE_VERSIONS:
        return None
    if len(body) != _FACTS.size + nr_places * _PLACE.size + nr_chunks * _CHUNK.size:
        return None
    contents = Contents(version, DomainHeader.decode(domain))
    if contents.domain.type not in list(DomainType):
        return None
    chunks_at = _FACTS.size + nr_places * _PLACE.size
    places = [Place(*fields) for fields in _PLACE.iter_unpack(body[_FACTS.size : chunks_at])]
    if sum(place.length for place in places) > size or not all(_learn(fd, contents, x, size) for x in places):
        return None
    page_map = PageMap()
    before = -1
    for index, data in _CHUNK.iter_unpack(body[chunks_at:]):
        chunk = words(data)
        if not before < index < _CHUNKS_END or not _fits(chunk, size):
            return None
        page_map.chunks[index] = chunk
        before = index
    return page_map, contents


def _learn(fd: int, contents: Contents, place: Place, size: int) -> bool:
    """Reads a record again; False if there cannot be one."""
    if place.length > KEPT.get(place.code, -1) or place.offset + place.length > size:
        return False
    body = os.pread(fd, place.length, place.offset)
    if len(body) < place.length:
        return False
    contents.learn(place, decode(place.code, body, place.offset))
    return True


def _fits(chunk: array[int], size: int) -> bool:
    """Whether all contents are within the file, and all types are known ones."""
    if max(chunk) >> PLACE_SHIFT > size - PAGE_SIZE:
        return False
    return not packed(chunk)[::8].translate(None, _FLAGS)


def _times(facts: os.stat_result) -> tuple[int, int, int]:
    return facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns


def _identity(fd: int) -> tuple[int, int, bytes]:
    """A file's size, time of change (in 64 bits, also of one before 1970), and a digest of its beginning and end."""
    facts = os.fstat(fd)
    size = facts.st_size
    ends = os.pread(fd, _ENDS, 0) + os.pread(fd, _ENDS, max(size - _ENDS, 0))
    return size, facts.st_mtime_ns % (1 << 64), hashlib.sha256(ends).digest()
