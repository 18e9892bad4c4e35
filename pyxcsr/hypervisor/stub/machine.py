"""The stub hypervisor's machine: its frames, guests, scripted failures and accounts.

There is one a process, also after a fork. What it does stands in csrc/stub/panel/stub_api.h.
"""

from __future__ import annotations

import errno as errno_module

from pyxcsr.arguments import check_callback
from pyxcsr.errors import UsageError
from pyxcsr.frames import PAGE_SIZE
from pyxcsr.hypervisor.interface import SCHEDULER_NAMES
from pyxcsr.hypervisor.names import KINDS
from pyxcsr.hypervisor.stub.panel import Panel
from pyxcsr.hypervisor.stub.text import SUSPENDS, TREES, StubGuest
from pyxcsr.plain import TYPE_CHECKING
from pyxcsr.plain_contexts import contextmanager
from pyxcsr.units import parse_size

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any, Callable, Optional, Union

    from pyxcsr.frames import Pfn
    from pyxcsr.hypervisor.stub.domain import StubDomain

    Hook = Callable[[str, int], Optional[int]]
    """Called at the entry of each libxenctrl call with its name and how often it was called.

    An int other than 0 that it returns is the errno with which that call fails.
    """

SCHEDULERS = {name: number for number, name in SCHEDULER_NAMES.items()}
"""Xen's, with their numbers."""

_SLACK_PAGES = 256
_SPECIAL_PAGES = 16  # of an HVM guest; a PVH guest has half of them


class Stub(Panel):
    """The control panel of the stub hypervisor: its machine, guests, scripted failures and accounts.

    ``ffi`` and ``lib`` are those of the module ``pyxcsr._stub``. Methods raise StubError where the stub
    refuses, with its errno as a fact.
    """

    _machines = 0  # how many there have been: domids begin anew with each

    def __init__(self, ffi: Any, lib: Any) -> None:
        super().__init__(ffi, lib)
        self._made: list[tuple[int, int]] = []  # (machine, domid) of each guest made through this object

    def __repr__(self) -> str:
        if self._inherited:
            return f"<{type(self).__name__} of another process>"
        guests = ", ".join(map(str, self.domains)) or "none"
        return f"<{type(self).__name__}: guests {guests}; {self.free_frames} of {self.max_page} frames free>"

    # -- the machine

    def reset(
        self,
        frames: int = 2 << 20,
        seed: int = 0,
        shadow: bool = True,
        extent_order: int = 3,
        force: bool = False,
        window: bool = False,
        backed: int = 0,
        physmap_dirty: bool = False,
        superpages: bool = True,
        scheduler: str = "credit2",
        pv32: bool = True,
        shared_info_anywhere: bool = False,
        dying_refused: bool = False,
    ) -> None:
        """Makes a new machine, without guests, rules, counts or store; open handles stay open.

        ``frames``: its size in pages; ``seed`` and ``extent_order``: in what order frames are handed out, and
        in runs of how many (2^order); ``shadow=False``: a hypervisor that cannot track a PV guest's writes.
        ``window``, ``backed``: for benchmarks, see docs/stub.md: foreign mappings that cost next to nothing, and
        frames from ``backed`` on that share 256 MiB of memory, so that a machine may be larger than this one.
        ``physmap_dirty``: in an HVM guest's log-dirty mode a gfn that comes is dirty, as since Xen 4.22; up to 4.21
        it is not. ``superpages=False``: populating an HVM guest with an order above 0 gives nothing.
        ``scheduler``: one of SCHEDULERS, of which credit and credit2 have caps.
        ``pv32=False``: a hypervisor without 32-bit PV guests. ``shared_info_anywhere``: as since Xen 4.22 a page of
        shared_info may lie beyond 4 GiB, and moves when its domain becomes a 32-bit one. ``dying_refused``: as since
        Xen 4.18 log-dirty calls on a domain that is being destroyed are refused; before they do nothing, and succeed.
        Raises StubError (EBUSY) while foreign mappings are alive, unless ``force`` takes them away.
        """
        if scheduler not in SCHEDULERS:
            raise UsageError(f"scheduler: {scheduler!r} is none of {', '.join(SCHEDULERS)}")
        config = self._ffi.new("stub_machine_config *")
        config.frames, config.seed, config.extent_order = frames, seed, extent_order
        config.shadow, config.force, config.window, config.backed = shadow, force, window, backed
        config.scheduler = SCHEDULERS[scheduler]
        config.pv32, config.shared_info_anywhere = pv32, shared_info_anywhere
        config.dying_refused = dying_refused
        config.physmap_dirty, config.scattered = physmap_dirty, not superpages
        self._check(self._lib.stub_reset(config))
        Stub._machines += 1

    @property
    def max_page(self) -> int:
        """One past the machine's last frame."""
        return int(self._lib.stub_max_page())

    def add_memory(self, frames: int) -> None:
        """Adds frames to the host, which no guest gets. Raises StubError (ENOSPC) if the m2p has no room for them."""
        self._check(self._lib.stub_add_memory(frames))

    @property
    def free_frames(self) -> int:
        """How many frames no domain has."""
        return int(self._lib.stub_free_frames())

    def frame(self, mfn: int) -> tuple[int, Optional[Pfn], int]:
        """(owner, pfn, type) of a frame: a domid or DOMID_INVALID, None for no pfn, bits 31-28 >> 28."""
        return self._frame(mfn)

    def set_m2p(self, mfn: int, pfn: int) -> None:
        """Writes an m2p entry."""
        self._check(self._lib.stub_set_m2p(mfn, pfn), mfn=mfn)

    # -- guests

    def create(self, guest: StubGuest) -> int:
        """Builds a guest, running; returns its domid. Raises StubError (ENOMEM, EINVAL), UsageError.

        It ends when the hypervisor whose control panel this is is closed, or before that by :meth:`destroy`.
        """
        if not isinstance(guest, StubGuest):
            raise UsageError(f"a guest is described by a StubGuest, not {guest!r}: StubGuest.parse(TEXT) makes one")
        if guest.width:
            return self._mine(self._check(self._lib.stub_create(self._config(guest))))
        return self._mine(self._check(self._lib.stub_create_hvm(self._config(guest), self._hvm_config(guest))))

    def _mine(self, domid: int) -> int:
        self._made.append((Stub._machines, domid))
        return domid

    def end_guests(self) -> None:
        """Destroys the guests made here that are still there. Closing the hypervisor does this."""
        made, self._made = self._made, []
        if self._inherited:  # the guests are in the parent, and so are their threads
            return
        for machine, domid in reversed(made):
            if machine == Stub._machines:
                self._lib.stub_destroy(domid)  # one that has gone already is no error here

    def create_empty(
        self, max_mem: Union[str, int] = "256M", vcpus: int = 1, name: str = "", kind: str = "pv64"
    ) -> int:
        """Makes a domain to restore into, as libxl does before its restore helper runs; returns its domid.

        It is paused, has no memory but shared_info, and vcpus that are down without a context. ``kind``: pv64
        or pv32 (it becomes a 32-bit domain only when it is told so, as by a restorer), pvh or hvm (with a device model,
        its video memory counts in ``max_mem``).
        ``max_mem``: its memory in bytes or as text; it may own 1 MiB more than that, as libxl lets it.
        ``name``: none is stub-DOMID. Raises StubError (EINVAL, ENOMEM), UsageError.
        """
        nr_bytes = parse_size(max_mem)
        if nr_bytes < 0 or nr_bytes % PAGE_SIZE:
            raise UsageError(f"max_mem: {max_mem!r} is not a whole number of pages of {PAGE_SIZE}")
        pages = nr_bytes // PAGE_SIZE + _SLACK_PAGES
        if not 0 < vcpus <= 64 or pages >= 1 << 32:
            raise UsageError(f"a domain has 1 to 64 vcpus and less than 16 TiB, not {vcpus} and {max_mem}")
        if kind not in KINDS:
            raise UsageError(f"kind: {kind!r} is none of {', '.join(KINDS)}")
        return self._mine(self._check(self._lib.stub_create_empty(KINDS.index(kind), pages, vcpus, name.encode())))

    def _config(self, guest: StubGuest) -> Any:
        config = self._ffi.new("stub_guest_config *")
        for name in ("holes", "p2m_vaddr", "seed", "vcpus", "msrs", "xsave", "ack_polls", "suspend_polls"):
            try:
                setattr(config, name, getattr(guest, name))
            except OverflowError:
                raise UsageError(f"{name}: {getattr(guest, name)} is too large") from None
        working = guest.writer == "calls" or (guest.writer == "thread" and guest.rate > 0)
        config.pages = guest.mem // PAGE_SIZE
        config.span = max(guest.mem, guest.span) // PAGE_SIZE
        config.max_pages = (guest.max_mem or max(guest.mem, guest.span)) // PAGE_SIZE
        if not guest.width:
            config.max_pages += guest.vram // PAGE_SIZE + _SPECIAL_PAGES
        config.width = guest.width
        config.spare = guest.spare_p2m // PAGE_SIZE
        config.hot = guest.hot // PAGE_SIZE
        config.rate = guest.rate if guest.writer == "thread" else 0
        config.writes = guest.writes if working else 0
        config.pt_updates = (guest.pt_updates if guest.width else guest.balloon) if working else 0
        config.offline_vcpus = sum(1 << vcpu for vcpu in set(guest.offline_vcpus))
        config.p2m_kind = TREES.index(guest.tree)
        config.suspend = SUSPENDS.index(guest.suspend if guest.pv_drivers else "ignore")
        config.share_invalid, config.map_shared_info = guest.share_invalid, guest.fixmap
        config.packed, config.unfilled = guest.packed, not guest.filled
        config.name = guest.name.encode()
        return config

    def _hvm_config(self, guest: StubGuest) -> Any:
        hvm = self._ffi.new("stub_hvm_config *")
        hvm.device_model = guest.kind == "hvm"
        hvm.vram, hvm.pod = guest.vram // PAGE_SIZE, guest.pod // PAGE_SIZE
        hvm.pod_cache = (guest.pod - guest.pod_missing) // PAGE_SIZE
        hvm.devmodel, hvm.devmodel_goes_on = guest.devmodel, guest.devmodel_stops == "told"
        hvm.pv_drivers, hvm.viridian = guest.pv_drivers, guest.viridian
        hvm.balloon_every, hvm.compact = guest.balloon_every, guest.compact
        hvm.asleep = guest.acpi_s_state == 3
        return hvm

    def destroy(self, domid: int) -> None:
        """Destroys a guest; like Xen's it stays, dying, while frames of it are mapped."""
        self._check(self._lib.stub_destroy(domid), domid=domid)

    @property
    def domains(self) -> list[int]:
        """The domids of all guests, dying ones included."""
        out = self._ffi.new("uint32_t[]", 1024)
        return [int(out[i]) for i in range(min(1024, self._lib.stub_domids(out, 1024)))]

    def guest(self, domid: int) -> StubDomain:
        """The control object of one guest. Raises StubError (ESRCH) if there is none."""
        from pyxcsr.hypervisor.stub.domain import StubDomain

        domain = StubDomain(self._ffi, self._lib, domid)
        domain.state()
        return domain

    # -- scripts and accounts

    def functions(self) -> list[str]:
        """The names of all library functions that the stub defines."""
        names = self._ffi.new("const char *[]", 128)
        count = self._lib.stub_functions(names, 128)
        return [self._text(names[i]) for i in range(count)]

    def fail(
        self, function: str, nth: int = 1, errno: int = errno_module.EIO, page: Optional[int] = None
    ) -> None:
        """Lets the ``nth`` call from now on (0: every one) of a library function fail with ``errno``.

        ``page``: of a foreign mapping only that page fails, through its entry in ``err[]``.
        """
        self._check(self._lib.stub_fail(function.encode(), nth, errno, -1 if page is None else page))

    def clear_failures(self) -> None:
        """Forgets all rules set by :meth:`fail`."""
        self._lib.stub_fail_clear()

    def calls(self) -> dict[str, int]:
        """How often each library function was called since the reset; functions never called are left out."""
        counts = {name: int(self._lib.stub_calls(name.encode())) for name in self.functions()}
        return {name: count for name, count in counts.items() if count}

    def clear_calls(self) -> None:
        """Counts from zero again."""
        self._lib.stub_calls_clear()

    def entered(self, function: str) -> tuple[float, float]:
        """When a library function was last entered, in seconds of time.monotonic(), and :attr:`inside` at that time.

        (0.0, 0.0): never since the reset.
        """
        at, inside = self._ffi.new("int64_t *"), self._ffi.new("int64_t *")
        self._check(self._lib.stub_entered(function.encode(), at, inside))
        return at[0] / 1e9, inside[0] / 1e9

    @property
    def inside(self) -> float:
        """Seconds that library calls have taken in all since the reset: what the stub itself costs."""
        return float(self._lib.stub_inside()) / 1e9

    @contextmanager
    def hook(self, function: Optional[Hook]) -> Iterator[None]:
        """Within this context ``function`` is called at the entry of every library call, first of all.

        It may use this control panel. If it raises, that call fails with EIO, and the first exception is
        raised when the context ends, with what the failed call led to as its context.
        """
        if function is None:
            yield
            return
        check_callback("hook", function, "a function of a call's name and number")
        failures: list[BaseException] = []
        self._install(function, failures)
        try:
            yield
        finally:
            if not self._inherited:  # a forked child's machine has no hook
                self._lib.stub_set_hook(self._ffi.NULL)
            if failures:
                raise failures[0]

    def _install(self, function: Hook, failures: list[BaseException]) -> None:
        def enter(name: Any, count: int) -> int:
            try:
                return function(self._text(name), count) or 0
            except BaseException as error:  # kept, and raised by hook(): C cannot pass it on
                failures.append(error)
                return errno_module.EIO

        self._ffi.def_extern(name="stub_python_hook", error=errno_module.EIO)(enter)
        self._lib.stub_set_hook(self._lib.stub_python_hook)

    def usage(self) -> dict[str, int]:
        """Everything that is open: mappings, mapped_pages, xc_handles, hypercall_buffers and so on."""
        usage = self._ffi.new("stub_usage *")
        self._lib.stub_get_usage(usage)
        return {name: int(getattr(usage, name)) for name, _ in self._ffi.typeof("stub_usage").fields}

    def leaks(self, handles: bool = False) -> dict[str, int]:
        """What of :meth:`usage` is not zero.

        What an open hypervisor has until it is closed (handles, a mapping of the m2p) only if asked for.
        """
        mine = {"xc_handles", "fmem_handles", "xs_handles", "xen_mappings"}
        return {name: n for name, n in self.usage().items() if n and (handles or name not in mine)}

    def store_read(self, path: str) -> Optional[str]:
        """The value of a store node, None if there is none."""
        value = self._ffi.new("char[]", 4096)
        rc = self._lib.stub_store_read(path.encode(), value, 4096)
        return None if rc == -errno_module.ENOENT else self._text(value)

    def store_write(self, path: str, value: str) -> None:
        """Writes a store node, as a guest or another tool would."""
        self._check(self._lib.stub_store_write(path.encode(), value.encode()), path=path)
