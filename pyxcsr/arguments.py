"""What callers give: of the right kind, or a UsageError that says what to give instead, before anything is done."""

from __future__ import annotations

import os
import sys

from pyxcsr.errors import UsageError
from pyxcsr.plain import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Union

    Kinds = Union[type, tuple[type, ...]]


def check_number(name: str, value: object, least: float, kinds: Kinds = int) -> None:
    """Raises UsageError unless ``value`` is a number of these kinds, and not below ``least``."""
    if isinstance(value, bool) or not isinstance(value, kinds):
        raise UsageError(f"{name} is {value!r}, which is no {'whole ' if kinds is int else ''}number")
    if not value >= least:  # type: ignore[operator]  # of NaN this is not true, either
        raise UsageError(f"{name} is {value!r}: it must be at least {least}")


def check_seconds(name: str, value: object) -> None:
    """Raises UsageError unless ``value`` is a number above 0."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not value > 0:
        raise UsageError(f"{name} is {value!r}: it must be a number of seconds, greater than 0")


def check_flag(name: str, value: object) -> None:
    """Raises UsageError unless ``value`` is True or False."""
    if not isinstance(value, bool):
        raise UsageError(f"{name} is {value!r}, not True or False")


def check_callback(name: str, value: object, what: str) -> None:
    """Raises UsageError unless ``value`` can be called, and is run when it is. ``what``: of which kind it must be."""
    if not callable(value):
        raise UsageError(f"{name} is {value!r}, which cannot be called: give {what}")
    check_not_async(name, value)


def check_methods(name: str, value: object, methods: tuple[str, ...]) -> None:
    """Raises UsageError if one of these of an object's methods is async. Those that it does not have are no matter."""
    for method in methods:
        check_not_async(f"{name}.{method}", getattr(value, method, None))


def check_not_async(name: str, value: object) -> None:
    """Raises UsageError for an async function: a call of it runs nothing, and nobody here awaits what it returns."""
    if _is_async(value):
        raise UsageError(
            f"{name} is {value!r}, an async function, which would never be run: give a plain function. It is called in "
            "the thread of this call, and can hand on what it learns by loop.call_soon_threadsafe(...)"
        )


# flags of a function's code: async def, and an async def that yields (inspect has their names, and takes long to load)
_COROUTINE, _ASYNC_GENERATOR = 0x80, 0x200


def _is_async(value: object) -> bool:
    """Whether it is an async function, a method or functools.partial of one, or an object whose __call__ is one."""
    functools = sys.modules.get("functools")  # where nobody has loaded it there is no partial
    while functools is not None and isinstance(value, functools.partial):
        value = value.func
    value = getattr(value, "__func__", value)  # a bound method's
    if getattr(value, "_is_coroutine_mark", None) is not None:  # of inspect.markcoroutinefunction()
        return True
    code = getattr(value, "__code__", None)
    if code is None and not isinstance(value, type):
        code = getattr(getattr(type(value), "__call__", None), "__code__", None)  # noqa: B004 - which is asked for its code
    return bool(getattr(code, "co_flags", 0) & (_COROUTINE | _ASYNC_GENERATOR))


def check_no_path(stream: object, what: str, to_open: str) -> None:
    """Raises UsageError for the name of a file. ``what``: is done with a stream; ``to_open``: how that is opened."""
    if isinstance(stream, (str, bytes, os.PathLike)):
        raise UsageError(f"a stream is {what} an open file, not a path: give {to_open} instead of {stream!r}")


def check_domain(hv: object, domid: object) -> None:
    """Raises UsageError unless ``hv`` may be a hypervisor and ``domid`` the id of a guest."""
    if isinstance(hv, type) or not callable(getattr(hv, "domain_info", None)):
        raise UsageError(f"the hypervisor is {hv!r}: give what pyxcsr.open_hypervisor() has returned")
    if isinstance(domid, bool) or not isinstance(domid, int):
        raise UsageError(f"the domain is {domid!r}: give its id, a number (of a name, `xl domid NAME` tells it)")
    if domid == 0:
        raise UsageError("domain 0 is this host's own: it cannot be saved or restored")
