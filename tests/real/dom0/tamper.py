"""tamper.py RAW [NAME OUT]: a PV guest's stream, wrong in the way of that name; without one the names are listed.

Written against the specification and not with pyxcsr's code, as streams.py.
"""
import struct
import sys
from pathlib import Path

PAGE_DATA, BASIC, END = 0x01, 0x04, 0x00
raw = Path(sys.argv[1]).read_bytes()


def records():
    at = 24 + 16
    while at < len(raw):
        kind, length = struct.unpack_from("<II", raw, at)
        end = at + 8 + -(-length // 8) * 8
        yield kind, at, end
        at = end


def put(name, data):
    if sys.argv[2:] == []:
        print(name)
    elif sys.argv[2] == name:
        Path(sys.argv[3]).write_bytes(data)


def changed(offset, value):
    return raw[:offset] + struct.pack("<Q", value) + raw[offset + 8:]


def first_table(at, level):
    """Offset of the first page of that type in a PAGE_DATA record, or None."""
    count, = struct.unpack_from("<I", raw, at + 8)
    page = at + 16 + 8 * count
    for entry in struct.unpack_from(f"<{count}Q", raw, at + 16):
        kind = entry >> 60
        if kind & 7 == level and kind < 13:
            return page
        page += 4096 if kind < 13 else 0
    return None


found = list(records())
pages = [(at, end) for kind, at, end in found if kind == PAGE_DATA]
middle = pages[len(pages) // 2]
put("page-data-removed", raw[:middle[0]] + raw[middle[1]:])
put("pfn-2-to-40", changed(pages[0][0] + 16, 1 << 40))
put("reserved-bits", changed(pages[0][0] + 16, struct.unpack_from("<Q", raw, pages[0][0] + 16)[0] | 1 << 55))
put("twice-in-a-record", changed(pages[0][0] + 24, struct.unpack_from("<Q", raw, pages[0][0] + 16)[0]))
tables = [page for page in (first_table(at, 1) for at, _ in pages) if page]
entry = next(o for o in range(tables[0], tables[0] + 4096, 8) if raw[o] & 1)
put("pte-beyond-max-pfn", changed(entry, 0x3FFFFFF << 12 | 0x67))
basic = next(at for kind, at, _ in found if kind == BASIC)
cr3 = basic + 8 + 8 + 4984 + 24  # record head, vcpu head, ctrlreg[3] of struct vcpu_guest_context
put("cr3-not-a-table", changed(cr3, 0x10 << 12))
put("no-vcpu", raw[:24 + 16] + b"".join(raw[at:end] for kind, at, end in found if kind != BASIC))
end_at = next(at for kind, at, _ in found if kind == END)
put("mandatory-unknown", raw[:end_at] + struct.pack("<II", 0x7F, 0) + raw[end_at:])
