"""What is done while a call fails: saves and restores of each kind of guest. SCENARIOS is a table of them."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from support.ordinary import ordinary_pages

FRAMES = 1 << 14
MOST = "24M"
PV = "pv64:mem=5M,max_mem=24M,writes=12,vcpus=2,holes=0.02,seed=3"
PV32 = PV.replace("pv64", "pv32")
PVH = "pvh:mem=5M,max_mem=24M,writes=12,vcpus=2,holes=0.02,seed=3,compact=yes"
HVM = "hvm:mem=5M,max_mem=24M,writes=12,vcpus=2,vram=64K,devmodel=3,seed=3,compact=yes"
ALONE = f"{HVM},pv_drivers=no"
"""Without a driver that could be asked: Xen suspends it."""

Do = Callable[[Any, int, Path], None]


class Scenario(NamedTuple):
    """``do`` saves the guest that ``guest`` describes into a path, or restores it (``restores``) from its stream, which
    may be a ``checkpointed`` one."""

    guest: str
    do: Do
    restores: bool = False
    checkpointed: bool = False

    @property
    def kind(self) -> str:
        """As StubGuest has it: pv64, pv32, pvh or hvm."""
        return self.guest.split(":", maxsplit=1)[0]


# -- saves


def save_file(hv: Any, domid: int, path: Path, **options: Any) -> None:
    """Into a file."""
    import pyxcsr

    with open(path, "wb") as out:
        pyxcsr.save(hv, domid, out, **options)


def into_file(**options: Any) -> Do:
    """Into a file, with these options."""
    return lambda hv, domid, path: save_file(hv, domid, path, **options)


def save_changing(hv: Any, domid: int, path: Path) -> None:
    """Of a guest whose p2m changes meanwhile: pages of it, its place and size, and what is in it."""
    guest, seen = hv.stub.guest(domid), {"xc_logdirty_control": 0, "xc_get_pfn_type_batch": 0}
    places = (0x50000000, 0x60000000) if guest.state().width == 4 else (0xFFFFC91000000000, 0xFFFFC92000000000)
    grown = guest.nr_pfns + 300
    elsewhere = places[guest.shared_info("p2m_vaddr") == places[0]]
    actions: dict[tuple[str, int], Callable[[], object]] = {
        ("xc_get_pfn_type_batch", 2): lambda: guest.balloon_out(ordinary_pages(guest)[-1]),
        ("xc_logdirty_control", 1): lambda: guest.replace_leaf(1),
        ("xc_logdirty_control", 2): lambda: guest.move_p2m(elsewhere, True),
        ("xc_logdirty_control", 3): lambda: guest.resize_p2m(grown) or guest.balloon_in(grown - 9),
    }

    def hook(name: str, count: int) -> None:
        if name in seen and guest.running:
            seen[name] += 1
            actions.get((name, seen[name]), lambda: None)()

    with hv.stub.hook(hook):
        save_file(hv, domid, path, policy="libxc")  # all of its passes, so that there is time for all of that


def save_ballooning(hv: Any, domid: int, path: Path) -> None:
    """Of a PVH guest that gives pages back and gets one beyond all others while it is saved."""
    guest, seen = hv.stub.guest(domid), {"xc_logdirty_control": 0}
    gfns = [x for x in guest.pfns_with_memory() if x < 0x400]  # the last ones are not its kernel's
    actions: dict[int, Callable[[], object]] = {
        1: lambda: guest.balloon_out(gfns[-9:]),
        2: lambda: guest.balloon_in(guest.nr_pfns + 7),
    }

    def hook(name: str, count: int) -> None:
        if name in seen and guest.running:
            seen[name] += 1
            actions.get(seen[name], lambda: None)()

    with hv.stub.hook(hook):
        save_file(hv, domid, path, policy="libxc")  # all of its passes, so that there is time for all of that


def with_qemu(**options: Any) -> Do:
    """Into a file, of a guest with a device model, which is told through its socket."""

    def save(hv: Any, domid: int, path: Path) -> None:
        from devicemodel.stub_qemu import qemu_of

        from pyxcsr.devicemodel.qemu import Qemu

        at = path.with_name("qmp")
        with qemu_of(hv.stub.guest(domid), at):
            save_file(hv, domid, path, device_model=Qemu(domid, str(at)), **options)

    return save


CHECKPOINTS = 3


def save_checkpointed(hv: Any, domid: int, path: Path) -> None:
    """Checkpoints (Remus), the last of which ends it; what is judged then is that one. A save that fails leaves all."""
    from pyxcsr.container.checkpoints import convert_checkpoint

    whole = path.with_name("checkpointed")
    try:
        protect(hv, domid, whole)
    except BaseException:
        os.replace(whole, path)
        raise
    with open(whole, "rb") as stream, open(path, "wb") as out:
        convert_checkpoint(stream, out.write, CHECKPOINTS)


def protect(hv: Any, domid: int, path: Path) -> None:
    """Into a file."""
    import pyxcsr

    save_file(hv, domid, path, checkpointed=pyxcsr.Checkpointed(0.0, count=CHECKPOINTS))


@contextmanager
def other_end(ours: int, work: Callable[..., None], *args: Any) -> Iterator[None]:
    """Another thread works at the other end meanwhile. In the end our end is closed, and that thread is waited for."""
    thread = threading.Thread(target=work, args=args)
    thread.start()
    try:
        yield
    finally:
        os.close(ours)
        thread.join()


def save_through(make: Callable[[], tuple[int, int]]) -> Do:
    """Into a pipe or socket with a reader that puts it into a file."""

    def save(hv: Any, domid: int, path: Path) -> None:
        import pyxcsr

        reader, writer = make()
        with other_end(writer, drain, reader, path):
            pyxcsr.save(hv, domid, writer)

    return save


def drain(reader: int, path: Path) -> None:
    """All of it into the file."""
    with open(reader, "rb") as source, open(path, "wb") as out:
        while piece := source.read(1 << 20):
            out.write(piece)


def socket_pair() -> tuple[int, int]:
    """Two descriptors."""
    one, two = socket.socketpair()
    return one.detach(), two.detach()


# -- restores


def restore_of(guest: str, checkpointed: bool = False) -> Do:
    """From a pipe, so that the input is waited for. The stream is made once."""

    def restore(hv: Any, domid: int, path: Path) -> None:
        import pyxcsr

        reader, writer = os.pipe()
        with other_end(reader, feed, writer, stream_of(guest, path.parent, checkpointed).read_bytes()):
            pyxcsr.restore(hv, domid, reader, checkpointed=checkpointed)

    return restore


def feed(writer: int, data: bytes) -> None:
    """As much of it as is wanted."""
    view = memoryview(data)
    try:
        while view:
            view = view[os.write(writer, view) :]
    except BrokenPipeError:
        pass  # the restore has failed, as it was to
    finally:
        os.close(writer)


def stream_of(guest: str, folder: Path, checkpointed: bool = False) -> Path:
    """A good stream of a guest. It is made in a machine of another process: the stub has one machine a process."""
    path = folder / f"good-{guest.split(':', maxsplit=1)[0]}{'-checkpointed' * checkpointed}"
    if path.exists():
        return path
    pid = os.fork()
    if pid == 0:
        import pyxcsr

        with pyxcsr.open_hypervisor("stub") as hv:
            hv.stub.reset(frames=FRAMES, force=True)
            domid = hv.stub.create(pyxcsr.StubGuest.parse(guest))
            if checkpointed:
                protect(hv, domid, path)
            else:
                save_file(hv, domid, path, live=guest in (PV, PV32))  # no device model is told of a live one here
        os._exit(0)
    if os.waitpid(pid, 0)[1]:
        raise RuntimeError(f"no stream of {guest} could be made")
    return path


SCENARIOS: dict[str, Scenario] = {
    "live": Scenario(PV, save_file),
    "follow": Scenario(PV, save_changing),
    "non-live": Scenario(PV, into_file(live=False)),
    "verify": Scenario(PV, into_file(verify=True)),
    "pipe": Scenario(PV, save_through(os.pipe)),
    "socket": Scenario(PV, save_through(socket_pair)),
    "ahead": Scenario(PV, into_file(map_ahead=True)),
    "ahead, non-live": Scenario(PV, into_file(live=False, map_ahead=True)),
    "restore": Scenario(PV, restore_of(PV), restores=True),
    "pv32, follow": Scenario(PV32, save_changing),
    "pv32, non-live": Scenario(PV32, into_file(live=False)),
    "pv32, restore": Scenario(PV32, restore_of(PV32), restores=True),
    "pvh": Scenario(PVH, save_file),
    "pvh, ballooning": Scenario(PVH, save_ballooning),
    "pvh, non-live": Scenario(PVH, into_file(live=False)),
    "pvh, restore": Scenario(PVH, restore_of(PVH), restores=True),
    "remus": Scenario(PV, save_checkpointed),
    "remus, pv32": Scenario(PV32, save_checkpointed),
    "remus, pvh": Scenario(PVH, save_checkpointed),
    "remus, restore": Scenario(PV, restore_of(PV, True), restores=True, checkpointed=True),
    "remus, pvh, restore": Scenario(PVH, restore_of(PVH, True), restores=True, checkpointed=True),
    "hvm": Scenario(HVM, with_qemu()),
    "hvm, non-live": Scenario(ALONE, with_qemu(live=False)),
    "hvm, restore": Scenario(HVM, restore_of(HVM), restores=True),
}
