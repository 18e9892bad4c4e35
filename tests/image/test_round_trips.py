"""Every kind of guest through every compression: restored from it, and as data, page by page what it was."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from support.same import check_same_pages

from image.guests import KINDS, Saved, options_of, save_guest
from pyxcsr import MemoryImage, StubGuest, restore, save
from pyxcsr.hypervisor.open import StubBackend
from pyxcsr.image.compare import compare
from pyxcsr.stream.compressed import COMPRESSIONS, plain
from pyxcsr.stream.format import RecordType
from pyxcsr.stream.records import HvmParams

PROGRAMS = sorted({x.command[0] for x in COMPRESSIONS})
MEM = "2M"


def packed(saved: Saved, program: str) -> Path:
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed")
    out = saved.path.with_suffix(f".{program}")
    with out.open("wb") as to, saved.path.open("rb") as content:
        subprocess.run([program, "-c1" if program == "bzip2" else "-cq1"], stdin=content, stdout=to, check=True)
    assert out.stat().st_size < saved.path.stat().st_size
    return out


def renewed(image: MemoryImage) -> set[int]:
    """Pages that a restore makes anew: with a PV guest's frame numbers, and what an HVM guest shares with dom0."""
    if image.kind == "PV":
        return {*image.contents.p2m_frames, image.registers(0).rdx}
    params = image.contents.record(RecordType.HVM_PARAMS)
    assert isinstance(params, HvmParams)
    return {value for _, value in params.params}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("program", PROGRAMS)
def test_restored_from_it_and_read_through_it(hv: StubBackend, tmp_path: Path, program: str, kind: str) -> None:
    saved = save_guest(hv, kind, tmp_path / "s", mem=MEM)
    path = packed(saved, program)
    with MemoryImage(path) as image, MemoryImage(saved.path) as before:
        check_same_pages({pfn: image.page(pfn) for pfn in image.pfns()}, saved.pages)
        assert compare(before, image).same
        own = renewed(image)
    domid = hv.stub.create_empty(max_mem=16 << 20, kind="pv64" if kind == "pv64" else "hvm")
    with path.open("rb") as file, plain(file.fileno()) as inside:
        restore(hv, domid, inside)
    guest = hv.stub.guest(domid)
    pfns = guest.pfns_with_memory()
    changed = {pfn for pfn, page in zip(pfns, guest.expected_pages(pfns)) if saved.pages[pfn] != page}
    assert set(pfns) == set(saved.pages) and changed <= own


@pytest.mark.parametrize("kind", ["hvm", "pvh"])
def test_a_later_save_differs_by_what_the_guest_has_written(hv: StubBackend, tmp_path: Path, kind: str) -> None:
    """Of PV guests test_compare.py has the same."""
    domid = hv.stub.create(getattr(StubGuest, kind)(mem="4M", holes=0.02, writes=0))
    guest = hv.stub.guest(domid)
    pages = []
    for name in "ab":
        with (tmp_path / name).open("wb") as out:
            save(hv, domid, out, live=False, **options_of(hv, domid, kind))
        pages.append({pfn: guest.read_page(pfn) for pfn in guest.pfns_with_memory()})
        if name == "a":
            hv.domain_resume(domid)
            for pfn in sorted(pages[0])[300:310:3]:
                guest.write_page(pfn, b"another thing", 16)
    changed = [pfn for pfn, page in pages[0].items() if pages[1][pfn] != page]
    with MemoryImage(tmp_path / "a") as a, MemoryImage(tmp_path / "b") as b:
        found = compare(a, b)
        assert list(found.content.pfns()) == sorted(changed) and len(changed) >= 4
        assert found.equal == len(pages[0]) - len(changed) and not (found.only_a.count or found.only_b.count)
