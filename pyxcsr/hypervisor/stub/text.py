"""Guests of the stub hypervisor described as data: fields, and the text that stands for them."""

from __future__ import annotations

from pyxcsr.errors import UsageError
from pyxcsr.frames import PAGE_SIZE
from pyxcsr.hypervisor.names import KINDS
from pyxcsr.plain import TYPE_CHECKING, dataclass
from pyxcsr.units import format_size, parse_size

if TYPE_CHECKING:
    from typing import Any, Callable

_SIZES = {"mem", "span", "max_mem", "spare_p2m", "hot", "vram", "pod", "pod_missing"}
TREES = ("no", "both", "only")
"""What a guest's p2m is announced as, in the order of enum stub_p2m_kind."""
_WRITERS = ("calls", "thread", "none")
SUSPENDS = ("ok", "ignore", "crash", "poweroff", "ack-only")
"""How a guest answers control/shutdown, in the order of enum stub_suspend."""


_COUNTS = (
    "seed", "writes", "pt_updates", "rate", "msrs", "xsave", "ack_polls", "suspend_polls", "balloon", "devmodel"
)
_CHOICES = (
    ("tree", TREES), ("writer", _WRITERS), ("suspend", SUSPENDS), ("devmodel_stops", ("itself", "told"))
)
_ONLY_PV = {"span", "spare_p2m", "p2m_vaddr", "tree", "share_invalid", "fixmap", "packed", "pt_updates"}
_NOT_PV = {"pod", "pod_missing", "balloon", "balloon_every", "viridian", "compact"}
_ONLY_HVM = {"vram", "devmodel", "devmodel_stops", "pv_drivers", "acpi_s_state"}
_ALIEN = {
    "pv64": _NOT_PV | _ONLY_HVM, "pv32": _NOT_PV | _ONLY_HVM, "pvh": _ONLY_PV | _ONLY_HVM, "hvm": _ONLY_PV
}
"""The fields that guests of a kind do not have."""
_P2M_VADDR_32 = 0xE8000000


@dataclass(frozen=True)
class StubGuest:
    """A guest of the stub described as data; sizes are in bytes. docs/stub.md has the table of fields.

    Make one with :meth:`pv64`, :meth:`pv32`, :meth:`pvh`, :meth:`hvm` or :meth:`parse`, which also take sizes as text.
    Raises UsageError for values that make no sense; what depends on the machine (free memory) is checked when the guest
    is created.
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
    pod: int = 0
    pod_missing: int = 0
    balloon: int = 0
    balloon_every: int = 1
    viridian: bool = False
    compact: bool = False
    vram: int = 0
    devmodel: int = 0
    devmodel_stops: str = "itself"
    pv_drivers: bool = True
    acpi_s_state: int = 0

    def __post_init__(self) -> None:
        self._check_kind()
        self._check_sizes()
        for name, choice in _CHOICES:
            if getattr(self, name) not in choice:
                raise UsageError(f"{name}: {getattr(self, name)!r} is none of {', '.join(choice)}")
        for name in _COUNTS:
            if getattr(self, name) < 0:
                raise UsageError(f"{name} must not be negative")
        if any(not 0 <= vcpu < 64 for vcpu in self.offline_vcpus):
            raise UsageError("offline_vcpus: vcpus have numbers from 0 to 63")
        if len(self.name.encode()) > 63 or not self.name.isprintable() or "," in self.name:
            raise UsageError("name: at most 63 bytes, printable, without commas")
        if self.balloon_every < 1:
            raise UsageError("balloon_every: at least 1 tick")
        if self.acpi_s_state not in (0, 3):
            raise UsageError("acpi_s_state: 0, or 3 for a guest that sleeps")

    def _check_kind(self) -> None:
        if self.kind not in KINDS:
            raise UsageError(f"the stub has no {self.kind!r} guests, only {', '.join(KINDS)}")
        for name in sorted(_ALIEN[self.kind]):
            if getattr(self, name) != _DEFAULTS[name]:
                raise UsageError(f"a {self.kind} guest has no {name!r}")

    def _check_sizes(self) -> None:
        for name in sorted(_SIZES):
            nr_bytes = getattr(self, name)
            if not isinstance(nr_bytes, int):
                raise UsageError(f"{name} is {nr_bytes!r}, not a number of bytes: StubGuest.pv64() also takes text")
            if nr_bytes < 0 or nr_bytes % PAGE_SIZE:
                raise UsageError(f"{name}: {nr_bytes} is not a multiple of {PAGE_SIZE}")
        if self.pod > self.mem // 2 or self.pod_missing > self.pod:
            raise UsageError("pod: at most half of mem; pod_missing: at most pod")

    @classmethod
    def pv64(cls, **values: Any) -> StubGuest:
        """A 64-bit PV guest; fields by name, sizes as bytes or text: ``pv64(mem="64M", vcpus=2)``.

        ``suspend="slow:N"`` is ``suspend="ok", suspend_polls=N``.
        """
        return cls._of("pv64", values)

    @classmethod
    def pv32(cls, **values: Any) -> StubGuest:
        """A 32-bit PV guest, described as :meth:`pv64` describes a 64-bit one; its p2m_vaddr has 32 bits."""
        return cls._of("pv32", values)

    @classmethod
    def pvh(cls, **values: Any) -> StubGuest:
        """A PVH guest, described as :meth:`pv64` describes a PV one: ``pvh(mem="64M", holes=0.1)``."""
        return cls._of("pvh", values)

    @classmethod
    def hvm(cls, **values: Any) -> StubGuest:
        """An HVM guest with a device model: ``hvm(mem="64M", vram="4M", devmodel=2)``."""
        return cls._of("hvm", values)

    @classmethod
    def _of(cls, kind: str, values: dict[str, Any]) -> StubGuest:
        fields: dict[str, Any] = {"kind": kind}
        if kind == "pv32":
            fields["p2m_vaddr"] = _P2M_VADDR_32
        for name, value in values.items():
            if name not in _DEFAULTS or name == "kind" or name in _ALIEN[kind]:
                keys = ", ".join(x for x in _KEYS if x not in _ALIEN[kind])
                raise UsageError(f"a {kind} guest of the stub has no {name!r}; it has {keys}")
            fields.update(_convert(name, value))
        return cls(**fields)

    @classmethod
    def parse(cls, text: str) -> StubGuest:
        """A guest from text like ``pv64:mem=1G,vcpus=2,writer=thread``. Raises UsageError."""
        if not isinstance(text, str):
            raise UsageError(f"{text!r} is no text: write a guest like 'pv64:mem=1G,vcpus=2'")
        kind, _, rest = text.partition(":")
        if kind not in KINDS:
            raise UsageError(
                f"{text!r} describes no stub guest: write pv64, pv32, pvh or hvm, alone or like pv64:mem=1G,vcpus=2"
            )
        values: dict[str, Any] = {}
        for item in rest.split(",") if rest else ():
            name, equals, value = item.partition("=")
            if not equals or not name:
                raise UsageError(f"{item!r} in {text!r} is not KEY=VALUE")
            if name in values:
                raise UsageError(f"{name} is given twice in {text!r}")
            values[name] = value
        return cls._of(kind, values)

    def describe(self) -> str:
        """The text from which :meth:`parse` makes this guest again."""
        items = []
        for name in _KEYS:
            value = getattr(self, name)
            if value != (_P2M_VADDR_32 if (self.kind, name) == ("pv32", "p2m_vaddr") else _DEFAULTS[name]):
                items.append(f"{name}={_format(name, value)}")
        return f"{self.kind}:{','.join(items)}" if items else self.kind

    def __repr__(self) -> str:
        return f"{type(self).__name__}.parse({self.describe()!r})"

    @property
    def width(self) -> int:
        """Bytes of a PV guest's word: 8 or 4; 0 for a guest of another kind."""
        return {"pv64": 8, "pv32": 4}.get(self.kind, 0)

    @property
    def nr_pfns(self) -> int:
        """How many pfns a PV guest's p2m covers."""
        return (max(self.mem, self.span) + self.spare_p2m) // PAGE_SIZE


_DEFAULTS: dict[str, Any] = {name: vars(StubGuest)[name] for name in StubGuest.__annotations__}
_KEYS = [name for name in _DEFAULTS if name != "kind"]


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
    default = _DEFAULTS[name]
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
