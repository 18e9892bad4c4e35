"""Guests of the stub, saved, with what their memory really is: by the machine's own tables."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from pyxcsr import StubGuest, save
from pyxcsr.hypervisor.open import StubBackend
from pyxcsr.hypervisor.stub.devmodel import device_model_of

KINDS = ("pv64", "hvm", "pvh")
XEN_SLOTS = slice(256 * 8, 272 * 8)


class Saved(NamedTuple):
    """A saved guest: its stream; by pfn its pages as streams have them, and as the machine has them (with mfns)."""

    kind: str
    path: Path
    pages: dict[int, bytes]
    machine: dict[int, bytes]
    mfns: dict[int, int]
    types: dict[int, int]

    @property
    def pv(self) -> bool:
        return self.kind == "pv64"


def options_of(hv: StubBackend, domid: int, kind: str) -> dict[str, Any]:
    return {"device_model": device_model_of(hv.stub.guest(domid))} if kind == "hvm" else {}


def save_guest(hv: StubBackend, kind: str, path: Path, mem: str = "8M", **words: Any) -> Saved:
    """Makes a guest with holes, saves it live while it writes, and asks the machine what it has at suspend."""
    given = {"holes": 0.05, "writes": 30, **words}
    domid = hv.stub.create(getattr(StubGuest, kind)(mem=mem, **given))
    guest = hv.stub.guest(domid)
    with path.open("wb") as out:
        save(hv, domid, out, **options_of(hv, domid, kind))
    pfns = guest.pfns_with_memory()
    return Saved(
        kind,
        path,
        dict(zip(pfns, guest.expected_pages(pfns))),
        {pfn: guest.read_page(pfn) for pfn in pfns},
        {pfn: guest.mfn(pfn) for pfn in pfns} if kind == "pv64" else {},
        dict(zip(pfns, map(int, guest.types(pfns)))),
    )
