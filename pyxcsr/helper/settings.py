"""What the environment says, but for limits (pyxcsr/limits/): libxl's messages have no place for it."""

from __future__ import annotations

from pyxcsr.errors import UsageError
from pyxcsr.hypervisor.names import BACKENDS
from pyxcsr.plain import TYPE_CHECKING, NamedTuple
from pyxcsr.policy import DEFAULT_P2M_CHANGES, P2M_CHANGES

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Optional, TypeVar

    from pyxcsr.hypervisor.names import BackendName
    from pyxcsr.policy import P2mChanges

    Word = TypeVar("Word", bound=str)


class Settings(NamedTuple):
    """The helper's settings, but for the limits. ``stub_guest`` is only ever set where ``backend`` is "stub";
    ``resume``: a suspended guest whose save fails is not left to libxl."""

    backend: BackendName
    stub_guest: Optional[str]
    p2m_changes: P2mChanges = DEFAULT_P2M_CHANGES
    resume: bool = False


def read_settings(environ: Mapping[str, str]) -> Settings:
    """Reads PYXCSR_* variables. Raises UsageError that names the variable; an empty one counts as unset."""
    backend = _choice(environ, "PYXCSR_BACKEND", BACKENDS) or "xen"
    stub_guest = environ.get("PYXCSR_STUB_GUEST") or None
    if stub_guest and backend != "stub":
        raise UsageError("PYXCSR_STUB_GUEST needs PYXCSR_BACKEND=stub; unset it to save a real guest")
    if backend == "stub" and not stub_guest:
        raise UsageError("PYXCSR_BACKEND=stub needs a guest: PYXCSR_STUB_GUEST=pv64:mem=16M, for example")
    return Settings(
        backend=backend,
        stub_guest=stub_guest,
        p2m_changes=_choice(environ, "PYXCSR_P2M_CHANGES", P2M_CHANGES) or DEFAULT_P2M_CHANGES,
        resume=_choice(environ, "PYXCSR_RESUME", ("yes", "no")) == "yes",
    )


def _choice(environ: Mapping[str, str], name: str, choices: tuple[Word, ...]) -> Optional[Word]:
    word = environ.get(name, "")
    if not word:
        return None
    for choice in choices:
        if word == choice:
            return choice
    raise UsageError(f"{name} is {word!r}, not {' or '.join(choices)}")
