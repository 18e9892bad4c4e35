"""A reader of libxc v3 streams that shares no code with pyxcsr, for what the lab compares.

  streams.py count FILE       bytes and pages with data, as JSON
  streams.py same OURS THEIRS do two streams of one suspended guest restore the same guest?
"""
import json
import struct
import sys

HEADERS = 24 + 16
RECORD = struct.Struct("<II")
END, PAGE_DATA, VCPU_BASIC, TSC_INFO, HVM_CONTEXT, HVM_PARAMS = 0x0, 0x1, 0x4, 0x8, 0x9, 0xA
NAMES = {0x0: "END", 0x2: "X86_PV_INFO", 0x3: "X86_PV_P2M_FRAMES", 0x4: "X86_PV_VCPU_BASIC",
         0x5: "X86_PV_VCPU_EXTENDED", 0x6: "X86_PV_VCPU_XSAVE", 0x7: "SHARED_INFO", 0x8: "X86_TSC_INFO",
         0x9: "HVM_CONTEXT", 0xA: "HVM_PARAMS",
         0xC: "X86_PV_VCPU_MSRS", 0x10: "STATIC_DATA_END", 0x11: "X86_CPUID_POLICY", 0x12: "X86_MSR_POLICY"}
# By the length of VCPU_BASIC: a word; where vcpu 0 names start_info, behind the ids, fpu_ctxt and flags; the rings in it.
PLACES = {8 + 5168: ("<Q", 8 + 512 + 8 + 12 * 8, (56, 72)), 8 + 2800: ("<I", 8 + 512 + 4 + 2 * 4, (44, 52))}
RING_PARAMS = (1, 17)                   # HVM_PARAM_STORE_PFN, _CONSOLE_PFN
WITH_TIME = {2, 6, 10, 11, 12, 13}      # save records that hold the time: CPU, LAPIC_REGS, PIT, RTC, HPET, PMTIMER
XTAB = 0xF
NO_DATA = {0xF, 0xE, 0xD}               # XTAB, BROKEN, XALLOC


def records(f):
    """Yields (type, body) of each record."""
    if len(f.read(HEADERS)) != HEADERS:
        sys.exit("streams: no headers")
    while True:
        head = f.read(RECORD.size)
        if len(head) != RECORD.size:
            sys.exit("streams: ends without END")
        kind, length = RECORD.unpack(head)
        body = f.read(-(-length // 8) * 8)
        yield kind, body[:length]
        if kind == END:
            return


def pages(body):
    """Yields (pfn, type, data or None) of a PAGE_DATA record."""
    (count,) = struct.unpack_from("<I", body)
    at = 8 + 8 * count
    for entry in struct.unpack_from(f"<{count}Q", body, 8):
        kind = entry >> 60
        data = None
        if kind not in NO_DATA:
            data, at = body[at:at + 4096], at + 4096
        yield entry & ((1 << 52) - 1), kind, data
    if at != len(body):
        sys.exit("streams: PAGE_DATA has another length than its pfns ask for")


def count(path):
    """What `count` prints."""
    nr_bytes, with_data = HEADERS, 0
    with open(path, "rb") as f:
        for kind, body in records(f):
            nr_bytes += RECORD.size + -(-len(body) // 8) * 8
            if kind == PAGE_DATA:
                with_data += sum(data is not None for _, _, data in pages(body))
    return {"bytes": nr_bytes, "pages": with_data}


def image(path):
    """The image's last word on each pfn, and the other records in their order."""
    last, rest = {}, []
    with open(path, "rb") as f:
        for kind, body in records(f):
            if kind != PAGE_DATA:
                rest.append((kind, body))
                continue
            for pfn, page_type, data in pages(body):
                last[pfn] = (page_type, data)
    return last, rest


def rings(last, rest):
    """The pfns of the xenstore and console rings, from the start_info that vcpu 0's rdx names.

    An HVM guest's parameters name them. dom0's daemons write these two whenever they like, and their writes are not
    logged.
    """
    params = next((body for kind, body in rest if kind == HVM_PARAMS), None)
    if params is not None:
        return {value for index, value in struct.iter_unpack("<QQ", params[8:]) if index in RING_PARAMS}
    vcpu0 = next(body for kind, body in rest if kind == VCPU_BASIC and body[:4] == bytes(4))
    word, at, rings = PLACES[len(vcpu0)]
    (start_info,) = struct.unpack_from(word, vcpu0, at)
    page = last[start_info][1]
    return {struct.unpack_from(word, page, at)[0] for at in rings}


def save_records(context):
    """(type, instance) to the bytes of each record of an HVM_CONTEXT."""
    found, at = {}, 0
    while at < len(context):
        kind, instance, length = struct.unpack_from("<HHI", context, at)
        found[kind, instance] = context[at + 8:at + 8 + length]
        at += 8 + length
    return found


def differing(x, y):
    """Where two strings of bytes differ, in words."""
    where = [i for i in range(max(len(x), len(y))) if x[i:i + 1] != y[i:i + 1]]
    return f"{len(x)} and {len(y)} bytes, {len(where)} differ, the first at {where[:16]}"


def same(ours, theirs):
    """Prints each difference; returns their number."""
    a, rest_a = image(ours)
    b, rest_b = image(theirs)
    shared = rings(a, rest_a)
    bad = []
    unsaid = (XTAB, None) if any(kind == HVM_PARAMS for kind, _ in rest_a) else (None, None)
    for pfn in sorted(a.keys() | b.keys()):
        (type_a, x), (type_b, y) = a.get(pfn, unsaid), b.get(pfn, unsaid)
        if type_a != type_b or (x is None) != (y is None):
            bad.append(f"pfn {pfn:#x}: type ours {type_a}, theirs {type_b}")
        elif x != y and pfn not in shared:
            bad.append(f"pfn {pfn:#x} of type {type_a}: {differing(x, y)}")
    kinds_a, kinds_b = [k for k, _ in rest_a], [k for k, _ in rest_b]
    if kinds_a != kinds_b:
        bad.append(f"records: ours {kinds_a}, theirs {kinds_b}")
    for (kind, x), (other, y) in zip(rest_a, rest_b):
        if kind == other == HVM_CONTEXT:
            ours_by, theirs_by = save_records(x), save_records(y)
            bad += [f"save record {key}: {differing(ours_by.get(key, b''), theirs_by.get(key, b''))}"
                    for key in sorted(ours_by.keys() | theirs_by.keys())
                    if ours_by.get(key) != theirs_by.get(key) and key[0] not in WITH_TIME]
        elif kind == other and x != y and kind != TSC_INFO:      # TSC_INFO holds the time of the save
            bad.append(f"{NAMES.get(kind, kind)}: {differing(x, y)}")
    print(f"{len(a)} pfns, {len(rest_a)} other records, {len(bad)} differences"
          f" (not counted: the rings at {[hex(p) for p in sorted(shared)]})")
    print("\n".join(bad[:40]))
    return len(bad)


if __name__ == "__main__":
    if sys.argv[1:2] == ["count"] and len(sys.argv) == 3:
        print(json.dumps(count(sys.argv[2])))
    elif sys.argv[1:2] == ["same"] and len(sys.argv) == 4:
        sys.exit(same(sys.argv[2], sys.argv[3]) > 0)
    else:
        sys.exit(__doc__)
