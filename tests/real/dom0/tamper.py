"""tamper.py XLFILE [NAME]: makes a saved PV guest's stream wrong in the way of that name, in place, and prints
what undoes it: OFFSET HEX. Without a name the names are listed. tamper.py XLFILE undo OFFSET HEX.

A record is taken out by turning it into an optional one that nobody knows. Only a few bytes are read and written:
dom0 is slow. Written against the specification and not with pyxcsr's code, as streams.py.
"""
import struct
import sys

PAGE_DATA, BASIC, TSC = 0x01, 0x04, 0x08
UNKNOWN, OPTIONAL = 0x7F, 0x8000007F
CR3 = 8 + 8 + 4984 + 24  # in a BASIC record: its head, the vcpu's, ctrlreg[3] of struct vcpu_guest_context
file = open(sys.argv[1], "r+b")


def at(offset, size):
    file.seek(offset)
    return file.read(size)


def u64(offset):
    return struct.unpack("<Q", at(offset, 8))[0]


def records():
    """(type, offset) of each record; the image begins with eight bytes of ones, before "XENF"."""
    offset = at(0, 1 << 16).index(b"\xff" * 8 + b"XENF") + 24 + 16
    while True:
        kind, length = struct.unpack("<II", at(offset, 8))
        yield kind, offset
        if kind == 0:
            return
        offset += 8 + -(-length // 8) * 8


def some_entry():
    """Offset of a present entry of some level 1 page table."""
    for record in pages:
        count, = struct.unpack("<I", at(record + 8, 4))
        page = record + 16 + 8 * count
        for entry in struct.unpack(f"<{count}Q", at(record + 16, 8 * count)):
            kind = entry >> 60
            if kind in (1, 9):
                table = struct.unpack("<512Q", at(page, 4096))
                present = [i for i, e in enumerate(table) if e & 1]
                if present:
                    return page + 8 * present[0]
            page += 4096 if kind < 13 else 0
    sys.exit("tamper: no page table in the stream")


def put(offset, value, form="<Q"):
    print(offset, at(offset, struct.calcsize(form)).hex())
    file.seek(offset)
    file.write(struct.pack(form, value))


def find(kind):
    return next(offset for k, offset in found if k == kind)


if sys.argv[2:3] == ["undo"]:
    file.seek(int(sys.argv[3]))
    file.write(bytes.fromhex(sys.argv[4]))
    sys.exit()
found = list(records())
pages = [offset for kind, offset in found if kind == PAGE_DATA]
WAYS = {
    "page-data-removed": lambda: put(pages[len(pages) // 2], OPTIONAL, "<I"),
    "pfn-2-to-40": lambda: put(pages[0] + 16, 1 << 40),
    "reserved-bits": lambda: put(pages[0] + 16, u64(pages[0] + 16) | 1 << 55),
    "twice-in-a-record": lambda: put(pages[0] + 24, u64(pages[0] + 16)),
    "pte-beyond-max-pfn": lambda: put(some_entry(), 0x3FFFFFF << 12 | 0x67),
    "cr3-not-a-table": lambda: put(find(BASIC) + CR3, 0x10 << 12),
    "no-vcpu": lambda: put(find(BASIC), OPTIONAL, "<I"),
    "mandatory-unknown": lambda: put(find(TSC), UNKNOWN, "<I"),
}
if sys.argv[2:]:
    WAYS[sys.argv[2]]()
else:
    print(*WAYS, sep="\n")
