"""The seeds: small streams of the stub's guests and of made-up ones, kept compressed in corpus/.

``PYTHONPATH=tests python -m fuzz.corpus`` makes them anew. Ordinary pages are emptied, except those that a restore
looks into: what is left of a guest of 1 MiB is a few KiB.
"""

from __future__ import annotations

import lzma
import os
import struct
from pathlib import Path

HERE = Path(__file__).resolve().parent / "corpus"
LIMIT = 200 << 10
REMUS = ("stub-remus-pv64", "stub-remus-pv32", "stub-remus-pvh")
"""Checkpointed streams of the stub's guests."""


def seeds() -> list[bytes]:
    """All of them, in the order of their names."""
    return [lzma.decompress(x.read_bytes()) for x in sorted(HERE.glob("*.xz"))]


def seed(name: str) -> bytes:
    """One of them."""
    return lzma.decompress((HERE / f"{name}.xz").read_bytes())


def keep(name: str, data: bytes) -> None:
    """Puts one into the folder."""
    (HERE / f"{name}.xz").write_bytes(lzma.compress(data, preset=9 | lzma.PRESET_EXTREME))


def thinned(data: bytes, wanted: set[int]) -> bytes:
    """The stream with ordinary pages empty, but for those ``wanted``."""
    from fuzz.mutate import apart, together

    head, pieces, rest = apart(data)
    out = []
    for code, body in pieces:
        out.append((code, _thinned_body(body, wanted) if code == 1 else body))
    return together(head, out, rest)


def _thinned_body(body: bytes, wanted: set[int]) -> bytes:
    (count,) = struct.unpack_from("<I", body)
    entries, at, out = struct.unpack_from(f"<{count}Q", body, 8), 8 + 8 * count, bytearray(body)
    for entry in entries:
        if entry >> 60 >= 13:
            continue
        if entry >> 60 == 0 and entry & (1 << 52) - 1 not in wanted:
            out[at : at + 4096] = bytes(4096)
        at += 4096
    return bytes(out)


def from_stub(text: str, live: bool, verify: bool = False, checkpoints: int = 0) -> bytes:
    """A guest of the stub. ``checkpoints``: so many, of a checkpointed save."""
    import pyxcsr

    with pyxcsr.open_hypervisor("stub") as hv:
        hv.stub.reset(frames=1 << 13, force=True)  # type: ignore[union-attr]
        domid = hv.stub.create(pyxcsr.StubGuest.parse(text))  # type: ignore[union-attr]
        guest, fd = hv.stub.guest(domid), os.memfd_create("stream")  # type: ignore[union-attr]
        checkpointed = pyxcsr.Checkpointed(0.0, count=checkpoints) if checkpoints else None
        pyxcsr.save(hv, domid, fd, live=live, verify=verify, checkpointed=checkpointed)
        wanted = set() if guest.state().hvm else {guest.state().start_info_pfn}
        os.lseek(fd, 0, os.SEEK_SET)
        with open(fd, "rb") as stream:
            return thinned(stream.read(), wanted)


def main() -> None:
    """Makes them."""
    from container.test_checkpoints import remus
    from support import containers
    from support import streams as build

    for old in HERE.glob("*.xz"):
        old.unlink()
    small = "pv64:mem=1M,seed=3,xsave=0"
    keep("stub-plain", from_stub(f"{small},writer=none", live=False))
    keep("stub-smp-holes", from_stub(f"{small},vcpus=2,holes=0.1,writer=none", live=False))
    keep("stub-live", from_stub(f"{small},writes=6,pt_updates=3", live=True))
    keep("stub-verify", from_stub(f"{small},writer=none,msrs=1", live=False, verify=True))
    keep("stub-pv32", from_stub(f"{small},vcpus=2,holes=0.1,writes=6".replace("pv64", "pv32"), live=True))
    keep("stub-pvh", from_stub("pvh:mem=1M,seed=3,xsave=0,vcpus=2,holes=0.1,writes=6,compact=yes", live=True))
    keep("stub-hvm", from_stub("hvm:mem=1M,seed=3,xsave=0,vcpus=2,vram=64K,viridian=yes,compact=yes", live=False))
    for name in REMUS:
        kind = name.rsplit("-", maxsplit=1)[-1]
        more = ",compact=yes" if kind == "pvh" else ""
        text = f"{kind}:mem=1M,seed=3,xsave=0,vcpus=2,holes=0.1,writes=6{more}"
        keep(name, from_stub(text, live=True, checkpoints=3))
    keep("made-up-pv64", build.assemble(build.pv64()))
    keep("made-up-pv64-v2", build.assemble(build.version2(build.pv64()), version=2))
    keep("made-up-pv32", build.assemble(build.pv32()))
    keep("made-up-xl", containers.xl())
    keep("made-up-hvm", containers.HVM)
    keep("made-up-hvm-xl", containers.HVM_XL)
    keep("made-up-libvirt", containers.libvirt(containers.HVM_LIBXL))
    keep("made-up-suspend-image", containers.suspend_image(containers.HVM, containers.part(0xF01, b"QEVM" * 9)))
    keep("made-up-remus", remus(2))
    keep("made-up-remus-hvm", remus(2, hvm=True, wrapped=True))
    total = sum(x.stat().st_size for x in HERE.glob("*.xz"))
    print(f"{len(list(HERE.glob('*.xz')))} seeds, {total} bytes")


if __name__ == "__main__":
    main()
