"""The stub hypervisor's Python face: guests described as data, and the machine's control panel.

The machine is one per process. :class:`Stub` drives it, :class:`StubDomain` one guest of it; what they
do stands in csrc/stub/stub_api.h. With backend.py, this is the only file that touches cdata.
"""

from __future__ import annotations

import dataclasses
import errno as errno_module
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Callable, Optional, Union

from pyxcsr.errors import UsageError, XcsrError
from pyxcsr.frames import PAGE_SIZE, Mfn, PageType, Pfn

Hook = Callable[[str, int], Optional[int]]
"""Called at the entry of each libxenctrl call with its name and how often it was called.

An int other than 0 that it returns is the errno with which that call fails.
"""

_UNITS = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_SIZES = {"mem", "span", "max_mem", "spare_p2m", "hot"}
_TREES = ("no", "both", "only")
_WRITERS = ("calls", "thread", "none")
_SUSPENDS = ("ok", "ignore", "crash", "poweroff", "ack-only")
_NO_PFN = (1 << 64) - 1
_SLACK_PAGES = 256


class StubError(XcsrError):
    """The stub's control panel refused. Facts: errno, and what it was about."""


def parse_size(text: Union[str, int]) -> int:
    """Octets from ``4096``, ``"64K"``, ``"256M"``, ``"1G"`` or ``"2T"``. Raises UsageError."""
    if isinstance(text, int):
        return text
    number, unit = text.strip(), 1
    if number[-1:].upper() in _UNITS:
        number, unit = number[:-1], _UNITS[number[-1].upper()]
    if not number.isdecimal():
        raise UsageError(f"{text!r} is not a size: write octets, or a number with K, M, G or T")
    return int(number) * unit


def format_size(octets: int) -> str:
    """The shortest text that :func:`parse_size` turns back into ``octets``."""
    for letter in ("T", "G", "M", "K"):
        if octets and octets % _UNITS[letter] == 0:
            return f"{octets // _UNITS[letter]}{letter}"
    return str(octets)


@dataclass(frozen=True)
class StubGuest:
    """A guest of the stub described as data; sizes are in octets. docs/stub.md has the table of fields.

    Make one with :meth:`pv64` or :meth:`parse`, which also take sizes as text. Raises UsageError for values
    that make no sense; what depends on the machine (free memory) is checked when the guest is created.
    """

    kind: str = "pv64"
    mem: int = 256 << 20
    span: int = 0
    max_mem: int = 0
    spare_p2m: int = 0
    holes: float = 0.0
    p2m_vaddr: int = 0xFFFFC90000000000
    tree: str = "no"
    share_invalid: bool = True
    fixmap: bool = True
    packed: bool = False
    filled: bool = True
    vcpus: int = 1
    offline_vcpus: tuple[int, ...] = ()
    msrs: int = 2
    xsave: int = 832
    seed: int = 0
    writes: int = 8
    pt_updates: int = 1
    hot: int = 0
    writer: str = "calls"
    rate: int = 20000
    suspend: str = "ok"
    ack_polls: int = 2
    suspend_polls: int = 3
    name: str = ""

    def __post_init__(self) -> None:
        if self.kind != "pv64":
            raise UsageError(f"the stub has no {self.kind!r} guests, only pv64")
        for name in sorted(_SIZES):
            octets = getattr(self, name)
            if octets < 0 or octets % PAGE_SIZE:
                raise UsageError(f"{name}: {octets} is not a multiple of {PAGE_SIZE}")
        for name, choice in (("tree", _TREES), ("writer", _WRITERS), ("suspend", _SUSPENDS)):
            if getattr(self, name) not in choice:
                raise UsageError(f"{name}: {getattr(self, name)!r} is none of {', '.join(choice)}")
        for name in ("seed", "writes", "pt_updates", "rate", "msrs", "xsave", "ack_polls", "suspend_polls"):
            if getattr(self, name) < 0:
                raise UsageError(f"{name} must not be negative")
        if any(not 0 <= vcpu < 64 for vcpu in self.offline_vcpus):
            raise UsageError("offline_vcpus: vcpus have numbers from 0 to 63")
        if self.writer == "thread" and not self.rate:
            raise UsageError("a writer thread needs a rate of at least 1 write a second")
        if len(self.name.encode()) > 63 or not self.name.isprintable() or "," in self.name:
            raise UsageError("name: at most 63 octets, printable, without commas")

    @classmethod
    def pv64(cls, **values: Any) -> StubGuest:
        """A 64-bit PV guest; fields by name, sizes as octets or text: ``pv64(mem="64M", vcpus=2)``.

        ``suspend="slow:N"`` is ``suspend="ok", suspend_polls=N``.
        """
        fields: dict[str, Any] = {}
        for name, value in values.items():
            if name not in _FIELDS or name == "kind":
                raise UsageError(f"a stub guest has no {name!r}; it has {', '.join(_KEYS)}")
            fields.update(_convert(name, value))
        return cls(**fields)

    @classmethod
    def parse(cls, text: str) -> StubGuest:
        """A guest from text like ``pv64:mem=1G,vcpus=2,writer=thread``. Raises UsageError."""
        kind, _, rest = text.partition(":")
        if kind != "pv64":
            raise UsageError(f"{text!r} describes no stub guest: write pv64, or pv64:mem=1G,vcpus=2, ...")
        values: dict[str, Any] = {}
        for item in rest.split(",") if rest else ():
            name, equals, value = item.partition("=")
            if not equals or not name:
                raise UsageError(f"{item!r} in {text!r} is not KEY=VALUE")
            if name in values:
                raise UsageError(f"{name} is given twice in {text!r}")
            values[name] = value
        return cls.pv64(**values)

    def describe(self) -> str:
        """The text from which :meth:`parse` makes this guest again."""
        items = []
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.name != "kind" and value != field.default:
                items.append(f"{field.name}={_format(field.name, value)}")
        return f"{self.kind}:{','.join(items)}" if items else self.kind

    @property
    def nr_pfns(self) -> int:
        """How many pfns its p2m covers."""
        return (max(self.mem, self.span) + self.spare_p2m) // PAGE_SIZE


_FIELDS = {field.name: field for field in dataclasses.fields(StubGuest)}
_KEYS = [name for name in _FIELDS if name != "kind"]


def _number(name: str, value: Any, convert: Callable[[Any], Any]) -> Any:
    try:
        return convert(value)
    except (TypeError, ValueError):
        raise UsageError(f"{name}: {value!r} is not a number") from None


def _boolean(name: str, value: Any) -> bool:
    known = {"yes": True, "1": True, "true": True, "no": False, "0": False, "false": False}
    answer = value if isinstance(value, bool) else known.get(str(value))
    if answer is None:
        raise UsageError(f"{name}: {value!r} is neither yes nor no")
    return bool(answer)


def _integer(value: Any) -> int:
    return int(value, 0) if isinstance(value, str) else int(value)


def _convert(name: str, value: Any) -> dict[str, Any]:
    """The fields that ``name=value`` sets, value being text or already of the field's type."""
    if name == "suspend":
        return _convert_suspend(str(value))
    if name in _SIZES:
        return {name: parse_size(value)}
    if name == "holes":
        return {name: _number(name, value, float)}
    if name == "offline_vcpus":
        numbers = value.split("+") if isinstance(value, str) else value
        return {name: tuple(_number(name, number, _integer) for number in numbers)}
    default = _FIELDS[name].default
    if isinstance(default, bool):
        return {name: _boolean(name, value)}
    if isinstance(default, int):
        return {name: _number(name, value, _integer)}
    return {name: str(value)}


def _convert_suspend(text: str) -> dict[str, Any]:
    kind, colon, polls = text.partition(":")
    if kind != "slow":
        return {"suspend": text}
    if not colon or not polls.isdecimal():
        raise UsageError(f"suspend: {text!r}; write slow:N with N calls until it is suspended")
    return {"suspend": "ok", "suspend_polls": int(polls)}


def _format(name: str, value: Any) -> str:
    if name in _SIZES:
        return format_size(value)
    if name == "offline_vcpus":
        return "+".join(str(vcpu) for vcpu in value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    if name == "p2m_vaddr":
        return hex(value)
    return repr(value) if isinstance(value, float) else str(value)


class Stub:
    """The control panel of the stub hypervisor: its machine, guests, scripted failures and accounts.

    ``ffi`` and ``lib`` are those of the module ``pyxcsr._stub``. Methods raise StubError where the stub
    refuses, with its errno as a fact.
    """

    def __init__(self, ffi: Any, lib: Any) -> None:
        self._ffi = ffi
        self._lib = lib

    def _text(self, chars: Any) -> str:
        raw: bytes = self._ffi.string(chars)
        return raw.decode()

    def _check(self, rc: int, **facts: Any) -> int:
        if rc >= 0:
            return int(rc)
        text = self._text(self._lib.stub_error()) or os.strerror(-rc)
        raise StubError(text, errno=int(-rc), **facts)

    # -- the machine

    def reset(
        self,
        frames: int = 2 << 20,
        seed: int = 0,
        shadow: bool = True,
        extent_order: int = 0,
        force: bool = False,
        window: bool = False,
        backed: int = 0,
    ) -> None:
        """Makes a new machine, without guests, rules, counts or store; open handles stay open.

        ``frames``: its size in pages; ``seed`` and ``extent_order``: in what order frames are handed out, and
        in runs of how many (2^order); ``shadow=False``: a hypervisor that cannot track a PV guest's writes.
        ``window``, ``backed``: for benchmarks, see docs/stub.md: foreign mappings that cost next to nothing, and
        frames from ``backed`` on that share 256 MiB of memory, so that a machine may be larger than this one.
        Raises StubError (EBUSY) while foreign mappings are alive, unless ``force`` takes them away.
        """
        config = self._ffi.new("stub_machine_config *")
        config.frames, config.seed, config.extent_order = frames, seed, extent_order
        config.shadow, config.force, config.window, config.backed = shadow, force, window, backed
        self._check(self._lib.stub_reset(config))

    @property
    def max_page(self) -> int:
        """One past the machine's last frame."""
        return int(self._lib.stub_max_page())

    @property
    def free_frames(self) -> int:
        """How many frames no domain has."""
        return int(self._lib.stub_free_frames())

    def frame(self, mfn: int) -> tuple[int, Optional[Pfn], int]:
        """(owner, pfn, type) of a frame: a domid or DOMID_INVALID, None for no pfn, bits 31-28 >> 28."""
        info = self._ffi.new("stub_frame_info *")
        self._check(self._lib.stub_frame(mfn, info), mfn=mfn)
        return int(info.owner), None if info.pfn == _NO_PFN else Pfn(int(info.pfn)), int(info.type) >> 28

    def set_m2p(self, mfn: int, pfn: int) -> None:
        """Writes an m2p entry."""
        self._check(self._lib.stub_set_m2p(mfn, pfn), mfn=mfn)

    # -- guests

    def create(self, guest: StubGuest) -> int:
        """Builds a guest, running; returns its domid. Raises StubError (ENOMEM, EINVAL)."""
        return self._check(self._lib.stub_create(self._config(guest)))

    def create_empty(self, max_mem: Union[str, int] = "256M", vcpus: int = 1, name: str = "") -> int:
        """Makes a domain to restore into, as libxl does before its restore helper runs; returns its domid.

        It is paused, a 64-bit PV one, has no memory but shared_info, and vcpus that are down without a context.
        ``max_mem``: its memory in octets or as text; it may own 1 MiB more than that, as libxl lets it.
        ``name``: none is stub-DOMID. Raises StubError (EINVAL, ENOMEM), UsageError.
        """
        octets = parse_size(max_mem)
        if octets < 0 or octets % PAGE_SIZE:
            raise UsageError(f"max_mem: {max_mem!r} is not a whole number of pages of {PAGE_SIZE}")
        pages = octets // PAGE_SIZE + _SLACK_PAGES
        if not 0 < vcpus <= 64 or pages >= 1 << 32:
            raise UsageError(f"a domain has 1 to 64 vcpus and less than 16 TiB, not {vcpus} and {max_mem}")
        return self._check(self._lib.stub_create_empty(pages, vcpus, name.encode()))

    def _config(self, guest: StubGuest) -> Any:
        config = self._ffi.new("stub_guest_config *")
        for name in ("holes", "p2m_vaddr", "seed", "vcpus", "msrs", "xsave", "ack_polls", "suspend_polls"):
            try:
                setattr(config, name, getattr(guest, name))
            except OverflowError:
                raise UsageError(f"{name}: {getattr(guest, name)} is too large") from None
        working = guest.writer != "none"
        config.pages = guest.mem // PAGE_SIZE
        config.span = max(guest.mem, guest.span) // PAGE_SIZE
        config.max_pages = (guest.max_mem or max(guest.mem, guest.span)) // PAGE_SIZE
        config.spare = guest.spare_p2m // PAGE_SIZE
        config.hot = guest.hot // PAGE_SIZE
        config.rate = guest.rate if guest.writer == "thread" else 0
        config.writes = guest.writes if working else 0
        config.pt_updates = guest.pt_updates if working else 0
        config.offline_vcpus = sum(1 << vcpu for vcpu in set(guest.offline_vcpus))
        config.p2m_kind = _TREES.index(guest.tree)
        config.suspend = _SUSPENDS.index(guest.suspend)
        config.share_invalid, config.map_shared_info = guest.share_invalid, guest.fixmap
        config.packed, config.unfilled = guest.packed, not guest.filled
        config.name = guest.name.encode()
        return config

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
        domain = StubDomain(self, self._ffi, self._lib, domid)
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
        failures: list[BaseException] = []
        self._install(function, failures)
        try:
            yield
        finally:
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


@dataclass(frozen=True)
class StubState:
    """A guest's state; see stub_domain_state in csrc/stub/stub_api.h. None stands for no pfn, no reason.

    Where the stub's own kernel does not run (``booted``), the pfns of what belongs to it are 2^64 - 1.
    """

    nr_pfns: int
    tot_pages: int
    max_pages: int
    ticks: int
    writes: int
    pt_updates: int
    dirty: int
    start_info_pfn: Pfn
    store_pfn: Pfn
    console_pfn: Pfn
    shared_info_mfn: Mfn
    kernel_l4_pfn: Pfn
    user_l4_pfn: Pfn
    nr_leaves: int
    missing_leaf_pfn: Optional[Pfn]
    shutdown_reason: Optional[int]
    shutdown: bool
    paused: bool
    dying: bool
    logdirty: bool
    running: bool
    booted: bool


@dataclass(frozen=True)
class StubTsc:
    """A TSC as a domain was given it: Xen's mode, elapsed nanoseconds, kHz, incarnation."""

    mode: int
    nsec: int
    khz: int
    incarnation: int


@dataclass(frozen=True)
class GrantSeed:
    """The grants that a toolstack made: frames (None: no entry) and the domains that may map them."""

    console_gfn: Optional[int]
    store_gfn: Optional[int]
    console_domid: int
    store_domid: int


class StubDomain:
    """One guest of the stub, from the inside and from the machine's own tables. Raises StubError."""

    def __init__(self, stub: Stub, ffi: Any, lib: Any, domid: int) -> None:
        self._stub = stub
        self._ffi = ffi
        self._lib = lib
        self.domid = domid

    def _check(self, rc: int, **facts: Any) -> int:
        return self._stub._check(rc, domid=self.domid, **facts)

    # -- state

    def state(self) -> StubState:
        """All of the state at once."""
        raw = self._ffi.new("stub_domain_state *")
        self._check(self._lib.stub_state(self.domid, raw))
        values = {name: getattr(raw, name) for name, _ in self._ffi.typeof("stub_domain_state").fields}
        if values["missing_leaf_pfn"] == _NO_PFN:
            values["missing_leaf_pfn"] = None
        if not values["shutdown"]:
            values["shutdown_reason"] = None
        return StubState(**values)

    @property
    def running(self) -> bool:
        """Neither shut down nor paused nor dying."""
        return self.state().running

    @property
    def suspended(self) -> bool:
        """Shut down with the reason suspend."""
        return self.state().shutdown_reason == 2

    @property
    def nr_pfns(self) -> int:
        """How many pfns the p2m covers."""
        return self.state().nr_pfns

    # -- the truth about its memory

    @property
    def tsc(self) -> Optional[StubTsc]:
        """The TSC that xc_domain_set_tsc_info gave it, None if it was not called."""
        raw = self._ffi.new("stub_tsc *")
        if not self._given(self._lib.stub_get_tsc(self.domid, raw)):
            return None
        return StubTsc(int(raw.mode), int(raw.nsec), int(raw.khz), int(raw.incarnation))

    @property
    def cpu_policy_given(self) -> Optional[tuple[int, int]]:
        """How many CPUID leaves and MSRs xc_set_domain_cpu_policy last gave it, None if it was not called."""
        leaves, msrs = self._ffi.new("uint32_t *"), self._ffi.new("uint32_t *")
        if not self._given(self._lib.stub_get_policy(self.domid, leaves, msrs)):
            return None
        return int(leaves[0]), int(msrs[0])

    @property
    def grant_seed(self) -> Optional[GrantSeed]:
        """What xc_dom_gnttab_seed put into its grant table, None if it was not called."""
        raw = self._ffi.new("stub_grant_seed *")
        if not self._given(self._lib.stub_get_grant_seed(self.domid, raw)):
            return None
        frames = [None if gfn == _NO_PFN else int(gfn) for gfn in (raw.console_gfn, raw.store_gfn)]
        return GrantSeed(frames[0], frames[1], int(raw.console_domid), int(raw.store_domid))

    def _given(self, rc: int) -> bool:
        return rc != -errno_module.ENOENT and self._check(rc) == 0

    def mfn(self, pfn: int) -> Mfn:
        """The frame of a pfn. StubError (ENOENT) if it has no memory."""
        out = self._ffi.new("uint64_t *")
        self._check(self._lib.stub_mfn(self.domid, pfn, out), pfn=pfn)
        return Mfn(int(out[0]))

    def _pfn_list(self, function: Callable[..., int], *arguments: int) -> list[Pfn]:
        room = self._check(function(self.domid, *arguments, self._ffi.NULL, 0))
        out = self._ffi.new("uint64_t[]", max(room, 1))
        count = self._check(function(self.domid, *arguments, out, room))
        return sorted(self._ffi.unpack(out, min(count, room))) if room else []

    def pfns_with_memory(self) -> list[Pfn]:
        """All pfns that have memory, ascending."""
        return self._pfn_list(self._lib.stub_pfns)

    def pfns_of_type(self, kind: PageType) -> list[Pfn]:
        """All pfns of that type, ascending: ``pfns_of_type(PageType.L1TAB_PINNED)``."""
        return self._pfn_list(self._lib.stub_pfns_of_type, int(kind) << 28)

    def leaf_pfns(self) -> list[Pfn]:
        """The pfn of each page of the p2m list, in its order; shared pages repeat."""
        count = self.state().nr_leaves
        out = self._ffi.new("uint64_t[]", max(count, 1))
        self._check(self._lib.stub_leaf_pfns(self.domid, out, count))
        return list(self._ffi.unpack(out, count))

    def read_page(self, pfn: int) -> bytes:
        """The page as it is in the machine's memory."""
        page = self._ffi.new("uint64_t[]", PAGE_SIZE // 8)
        self._check(self._lib.stub_read_page(self.domid, pfn, page), pfn=pfn)
        return bytes(self._ffi.buffer(page))

    def expected_page(self, pfn: int) -> bytes:
        """The page as a correct save has it: page tables with pfns for mfns, Xen's slots zero.

        Made from the stub's own tables of owners, not from the guest's p2m or the m2p. StubError: EAGAIN if a
        table's entry refers to a frame that is not the guest's, E2BIG for a superpage, ENOENT without memory.
        """
        return self.expected_pages([pfn])[0]

    def expected_pages(self, pfns: Sequence[int]) -> list[bytes]:
        """:meth:`expected_page` for many at once."""
        pages, _ = self._expected(pfns)
        view = self._ffi.buffer(pages)
        return [view[i * PAGE_SIZE:(i + 1) * PAGE_SIZE] for i in range(len(pfns))]

    def types(self, pfns: Sequence[int]) -> list[PageType]:
        """The types of pages, as Xen reports them."""
        return [PageType(self._stub.frame(self.mfn(pfn))[2]) for pfn in pfns]

    def _expected(self, pfns: Sequence[int]) -> tuple[Any, Any]:
        pages = self._ffi.new("uint64_t[]", max(1, len(pfns)) * PAGE_SIZE // 8)
        types = self._ffi.new("uint32_t[]", max(1, len(pfns)))
        given = self._ffi.new("uint64_t[]", list(pfns))
        self._check(self._lib.stub_expected_pages(self.domid, given, len(pfns), pages, types))
        return pages, types

    def read_shared_info(self) -> bytes:
        """The whole shared_info page as it is now."""
        page = self._ffi.new("uint64_t[]", PAGE_SIZE // 8)
        self._check(self._lib.stub_read_shared_info(self.domid, page))
        return bytes(self._ffi.buffer(page))

    # -- what the guest does

    def adopt(self) -> None:
        """Unpauses a restored guest and sees that its kernel runs; harmless once it does.

        Raises StubError (EINVAL) if the kernel crashed at its start, and says what it found wrong.
        """
        self._check(self._lib.stub_adopt(self.domid))

    def write_page(self, pfn: int, data: bytes, offset: int = 0) -> None:
        """Writes into a page and marks it dirty."""
        source = self._ffi.from_buffer(data)
        self._check(self._lib.stub_write_page(self.domid, pfn, offset, source, len(data)), pfn=pfn)

    def tick(self, times: int = 1) -> None:
        """Lets the guest run as it does at the entry of a library call."""
        self._check(self._lib.stub_tick(self.domid, times))

    def bump_generation(self, by: int = 1) -> None:
        """Adds to p2m_generation."""
        self._check(self._lib.stub_bump_generation(self.domid, by))

    def set_generation(self, value: int) -> None:
        """Sets p2m_generation."""
        self.poke_shared_info("p2m_generation", value)

    def move_p2m(self, vaddr: int, new_root: bool = False) -> None:
        """Maps the p2m list at another address, if asked in a new root table (p2m_cr3); generation + 2."""
        self._check(self._lib.stub_move_p2m(self.domid, vaddr, new_root), vaddr=vaddr)

    def replace_leaf(self, index: int) -> None:
        """Puts another page with the same content in the place of a p2m page; generation + 2.

        A guest that has a tree only (``tree=only``) has no generation to count.
        """
        self._check(self._lib.stub_replace_leaf(self.domid, index), index=index)

    def balloon_out(self, pfns: Union[int, Sequence[int]]) -> None:
        """Gives the memory of pfns back. EBUSY for pages that the guest's kernel uses."""
        for pfn in [pfns] if isinstance(pfns, int) else pfns:
            self._check(self._lib.stub_balloon_out(self.domid, pfn), pfn=pfn)

    def balloon_in(self, pfns: Union[int, Sequence[int]], mfn: Optional[int] = None) -> None:
        """Gets memory for pfns; where the p2m page was shared it is replaced (generation + 2).

        As on Xen the p2m's page is dirty then, the page that came is not. ``mfn``: that frame, which must be free
        (EBUSY), as the one that the pfn had before; None: any.
        """
        for pfn in [pfns] if isinstance(pfns, int) else pfns:
            self._check(self._lib.stub_balloon_in(self.domid, pfn, _NO_PFN if mfn is None else mfn), pfn=pfn)

    def move_page(self, pfn: int, to: int) -> None:
        """Gives a data page's frame another pfn, one without memory; entries that map it go on mapping it.

        Raises StubError (EBUSY) for pages that the guest's kernel uses, EINVAL if ``to`` has memory.
        """
        self._check(self._lib.stub_move_page(self.domid, pfn, to), pfn=pfn, to=to)

    def move_tree(self) -> None:
        """Puts the p2m tree, its lists and their list, into other pages. EINVAL if it has none."""
        self._check(self._lib.stub_move_tree(self.domid))

    def resize_p2m(self, nr_pfns: int) -> None:
        """Lets the p2m cover so many pfns from now on, more or fewer; generation + 2, then max_pfn.

        Raises StubError (EBUSY) if a pfn beyond the new end has memory.
        """
        self._check(self._lib.stub_resize_p2m(self.domid, nr_pfns), nr_pfns=nr_pfns)

    def set_honest(self, honest: bool) -> None:
        """False: it changes the structure of its p2m from now on, and leaves p2m_generation as it is."""
        self._check(self._lib.stub_set_honest(self.domid, honest))

    def set_writes(self, writes: int, pt_updates: int = 0) -> None:
        """How much it writes from now on, a tick or a turn of its thread."""
        self._check(self._lib.stub_set_writes(self.domid, writes, pt_updates))

    def set_suspend(self, kind: str, ack_polls: int = 2, suspend_polls: int = 3) -> None:
        """How it answers control/shutdown from now on."""
        if kind not in _SUSPENDS:
            raise UsageError(f"suspend: {kind!r} is none of {', '.join(_SUSPENDS)}")
        index = _SUSPENDS.index(kind)
        self._check(self._lib.stub_set_suspend(self.domid, index, ack_polls, suspend_polls))

    def shut_down(self, reason: int = 2) -> None:
        """Shuts it down at once: 0 poweroff, 1 reboot, 2 suspend (as it would itself), 3 crash."""
        self._check(self._lib.stub_shut_down(self.domid, reason))

    def destroy(self) -> None:
        """Destroys it, as another tool would."""
        self._stub.destroy(self.domid)

    # -- what a broken or hostile guest has

    def corrupt_pte(self, table_pfn: int, index: int, value: int) -> int:
        """Writes any value into an entry of a table (or any word of a page); returns what was there."""
        old = self._ffi.new("uint64_t *")
        self._check(self._lib.stub_write_pte(self.domid, table_pfn, index, value, old), pfn=table_pfn)
        return int(old[0])

    def corrupt_p2m(self, pfn: int, value: int) -> int:
        """Writes any value into the p2m's entry for a pfn; returns what was there."""
        old = self._ffi.new("uint64_t *")
        self._check(self._lib.stub_write_p2m(self.domid, pfn, value, old), pfn=pfn)
        return int(old[0])

    def set_type(self, pfn: int, kind: PageType) -> None:
        """Gives a page another type in Xen's tables, whatever is in it; marks it dirty, as Xen does."""
        self._check(self._lib.stub_set_type(self.domid, pfn, int(kind) << 28), pfn=pfn)

    def shared_info(self, field: str) -> int:
        """A field of shared_info: max_pfn, p2m_cr3, p2m_vaddr, p2m_generation and others (docs/stub.md)."""
        out = self._ffi.new("uint64_t *")
        self._check(self._lib.stub_get_shared_info(self.domid, field.encode(), out), field=field)
        return int(out[0])

    def poke_shared_info(self, field: str, value: int) -> None:
        """Sets a field of shared_info to any value."""
        self._check(self._lib.stub_set_shared_info(self.domid, field.encode(), value), field=field)

    def vcpu(self, vcpu: int, field: str) -> int:
        """A field of a vcpu: rax, rdx, rip, cr1, cr3, gdt_ents, gdt_frame0 and others (docs/stub.md)."""
        out = self._ffi.new("uint64_t *")
        self._check(self._lib.stub_get_vcpu(self.domid, vcpu, field.encode(), out), field=field)
        return int(out[0])

    def poke_vcpu(self, vcpu: int, field: str, value: int) -> None:
        """Sets a field of a vcpu to any value."""
        self._check(self._lib.stub_set_vcpu(self.domid, vcpu, field.encode(), value), field=field)

    def poke_domain(self, field: str, value: int) -> None:
        """Sets what Xen says of the domain: max_pages, tot_pages, dying, hvm, width."""
        self._check(self._lib.stub_set_domain(self.domid, field.encode(), value), field=field)
