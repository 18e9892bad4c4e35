"""cores.py THEIRS OURS: do two files in Xen's dump-core format say the same of each page? cores.py --raw CORE RAW."""

import mmap
import os
import struct
import sys

PAGE = 4096
XEN = slice(256 * 8, 272 * 8)  # Xen's own slots of a level 4 table: a stream has nothing of them
RINGS = 2  # xenstore's and the console's: dom0's daemons write them at any time
SHOWN = 10
CONTEXT = 5168  # of a vcpu
RAX, VM_ASSIST = 600, 5136
NAMES = {RAX: "rax", 648: "rip", 672: "rsp", 4832: "gdt", 4992: "user cr3", 5008: "cr3"}


class Core:
    def __init__(self, path):
        with open(path, "rb") as file:
            self.data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        at, size, count, names = (self.number(*x) for x in ((40, 8), (58, 2), (60, 2), (62, 2)))
        headers = [struct.unpack_from("<IIQQQQIIQQ", self.data, at + size * i) for i in range(count)]
        strings = self.data[headers[names][4] : headers[names][4] + headers[names][5]]
        self.sections = {strings[x[0] : strings.index(b"\0", x[0])].decode(): (x[4], x[5]) for x in headers}
        self.pv = ".xen_p2m" in self.sections
        table = self.section(".xen_p2m" if self.pv else ".xen_pfn")
        numbers = struct.unpack(f"<{len(table) // 8}Q", table)
        pfns = numbers[::2] if self.pv else numbers
        start = self.sections[".xen_pages"][0]
        self.places = {pfn: start + PAGE * i for i, pfn in enumerate(pfns) if pfn != (1 << 64) - 1}
        self.mfns = dict(zip(pfns, numbers[1::2])) if self.pv else {}

    def number(self, at, size):
        return int.from_bytes(self.data[at : at + size], "little")

    def section(self, name):
        at, size = self.sections[name]
        return self.data[at : at + size]

    def page(self, pfn):
        return self.data[self.places[pfn] : self.places[pfn] + PAGE]


def differences(theirs, ours):
    """What differs, in words."""
    if theirs.pv != ours.pv:
        yield "the kind of guest"
        return
    only = set(theirs.places) ^ set(ours.places)
    # Of a PV guest both go by its p2m. Of others xl asks for each gfn up to the highest, and has pages that are no
    # memory of the guest's, like those of its rings.
    if only and (ours.pv or len(only) > 64):
        yield f"{len(only)} pfns are in one alone, the first 0x{min(only):x}"
    masked = rings = 0
    for pfn in sorted(set(theirs.places) & set(ours.places)):
        a, b = theirs.page(pfn), ours.page(pfn)
        if theirs.mfns.get(pfn) != ours.mfns.get(pfn):
            yield f"pfn 0x{pfn:x}: mfn 0x{theirs.mfns[pfn]:x}, 0x{ours.mfns[pfn]:x}"
        if a != b and ours.pv and not any(b[XEN]) and a[: XEN.start] + a[XEN.stop :] == b[: XEN.start] + b[XEN.stop :]:
            masked += 1
        elif a != b and rings < RINGS:
            rings += 1
            print(f"pfn 0x{pfn:x} differs: taken for a ring, of which there are {RINGS}")
        elif a != b:
            at = next(i for i in range(PAGE) if a[i] != b[i])
            yield f"pfn 0x{pfn:x} differs from byte {at} on: {a[at:at + 8].hex()}, {b[at:at + 8].hex()}"
    print(f"{len(ours.places)} pages, {len(only)} in one alone; Xen's slots in {masked} level 4 tables")
    yield from context_differences(theirs.section(".xen_prstatus"), ours.section(".xen_prstatus"), ours.pv)


def context_differences(theirs, ours, pv):
    """Of the vcpus' contexts, each number that differs."""
    if len(theirs) != len(ours):
        yield f"contexts of {len(theirs)}, {len(ours)} bytes"
    for at in range(0, min(len(theirs), len(ours)), 8):
        a, b = theirs[at : at + 8].hex(), ours[at : at + 8].hex()
        vcpu, within = divmod(at, CONTEXT)
        if within == RAX and (a, b) == ("01" + "00" * 7, "00" * 8):
            print(f"vcpu {vcpu}: rax is 1 and 0: the guest was resumed, paused, when it had been saved")
        elif a != b and within == VM_ASSIST and not pv:
            print(f"vcpu {vcpu}: vm_assist {a}, {b}: HVM's save records do not have it")
        elif a != b:
            yield f"vcpu {vcpu}: {NAMES.get(within, f'byte {within} of its context')} {a}, {b}"


def raw_differences(core, path):
    with open(path, "rb") as file:
        for pfn in core.places:
            if os.pread(file.fileno(), PAGE, pfn * PAGE) != core.page(pfn):
                yield f"pfn 0x{pfn:x} differs in the raw image"


def main():
    if sys.argv[1] == "--raw":
        found = list(raw_differences(Core(sys.argv[2]), sys.argv[3]))
    else:
        found = list(differences(Core(sys.argv[1]), Core(sys.argv[2])))
    print("\n".join(found[:SHOWN]))
    print(f"{len(found)} differences")
    sys.exit(bool(found))


main()
