"""The installed libxenguest 4.17 through ctypes, on whatever libxenctrl this process has loaded first."""

from __future__ import annotations

import ctypes
from ctypes import CFUNCTYPE, POINTER, Structure, c_int, c_long, c_uint, c_uint32, c_ulong, c_void_p
from pathlib import Path
from typing import Any, Callable, NamedTuple, Optional

STREAM_PLAIN, STREAM_REMUS = 0, 1
LIVE = 1  # XCFLAGS_LIVE


class PrecopyStats(Structure):
    """struct precopy_stats."""

    _fields_ = (("iteration", c_uint), ("total_written", c_ulong), ("dirty_count", c_long))


_Plain = CFUNCTYPE(c_int, c_void_p)
_Precopy = CFUNCTYPE(c_int, PrecopyStats, c_void_p)
_Switch = CFUNCTYPE(c_int, c_uint32, c_uint, c_void_p)
_StaticDataDone = CFUNCTYPE(c_int, c_uint, c_void_p)
_Results = CFUNCTYPE(None, c_ulong, c_ulong, c_void_p)


class _SaveCallbacks(Structure):
    _fields_ = (
        ("suspend", _Plain),
        ("precopy_policy", _Precopy),
        ("postcopy", _Plain),
        ("checkpoint", _Plain),
        ("wait_checkpoint", _Plain),
        ("switch_qemu_logdirty", _Switch),
        ("data", c_void_p),
    )


class _RestoreCallbacks(Structure):
    _fields_ = (
        ("static_data_done", _StaticDataDone),
        ("suspend", _Plain),
        ("postcopy", _Plain),
        ("checkpoint", _Plain),
        ("wait_checkpoint", _Plain),
        ("restore_results", _Results),
        ("data", c_void_p),
    )


class Restored(NamedTuple):
    """What xc_domain_restore gave back."""

    rc: int
    errno: int
    store_gfn: int
    console_gfn: int
    missing: Optional[int]  # of static_data_done; None: it was not called


def _telling(device_model: Callable[[bool], None]) -> Callable[[int, int, Any], int]:
    def switch(domid: int, enable: int, data: Any) -> int:
        device_model(bool(enable))
        return 0

    return switch


class Libxenguest:
    """xc_domain_save and xc_domain_restore, with a handle of their own."""

    def __init__(self, standin: Path, libxenguest: Path) -> None:
        """``standin``: the libxenctrl in this process; libxenguest finds it by its soname."""
        self._ctrl = ctypes.CDLL(str(standin), use_errno=True)
        self._guest = ctypes.CDLL(str(libxenguest), use_errno=True)
        self._log = ctypes.CDLL("libxentoollog.so.1")
        self._declare()
        self._logger = self._make_logger()
        self._xch = self._ctrl.xc_interface_open(self._logger, None, 0)
        if not self._xch:
            raise OSError(ctypes.get_errno(), "xc_interface_open failed")

    @property
    def handle(self) -> int:
        """The xc_interface, as an address."""
        return int(self._xch)

    def _declare(self) -> None:
        self._ctrl.xc_interface_open.restype = c_void_p
        self._ctrl.xc_interface_open.argtypes = (c_void_p, c_void_p, c_uint)
        self._ctrl.xc_interface_close.argtypes = (c_void_p,)
        save, restore = self._guest.xc_domain_save, self._guest.xc_domain_restore
        save.argtypes = (c_void_p, c_int, c_uint32, c_uint32, POINTER(_SaveCallbacks), c_int, c_int)
        ends = (c_uint, POINTER(c_ulong), c_uint32)
        restore.argtypes = (
            *(c_void_p, c_int, c_uint32, *ends, *ends),
            *(c_int, POINTER(_RestoreCallbacks), c_int),
        )
        self._log.xtl_createlogger_stdiostream.restype = c_void_p
        self._log.xtl_createlogger_stdiostream.argtypes = (c_void_p, c_int, c_uint)
        self._log.xtl_logger_destroy.argtypes = (c_void_p,)

    def _make_logger(self) -> Any:
        """To standard error, warnings and worse."""
        stderr = c_void_p.in_dll(ctypes.CDLL(None), "stderr")
        warn = 7  # XTL_WARN
        return self._log.xtl_createlogger_stdiostream(stderr, warn, 0)

    def close(self) -> None:
        """Closes the handle."""
        self._ctrl.xc_interface_close(self._xch)
        self._log.xtl_logger_destroy(self._logger)

    def save(
        self,
        fd: int,
        domid: int,
        *,
        live: bool,
        suspend: Callable[[], bool],
        precopy: Optional[Callable[[int, int, int], int]] = None,
        device_model: Optional[Callable[[bool], None]] = None,
        postcopy: Optional[Callable[[], bool]] = None,
        checkpoint: Optional[Callable[[], bool]] = None,
    ) -> tuple[int, int]:
        """xc_domain_save; (its result, errno after it). ``precopy``: of iteration, total written, dirty count.

        Without ``precopy`` libxenguest decides for itself (at most 5 passes, below 50 dirty pages). ``device_model``
        is told whether to report its writes: HVM and PVH guests cannot be saved without. With ``postcopy`` and
        ``checkpoint`` the stream is one of Remus, which goes on until one of them returns False: that is an error.
        """
        callbacks = _SaveCallbacks(suspend=_Plain(lambda _: int(suspend())))
        if device_model is not None:
            callbacks.switch_qemu_logdirty = _Switch(_telling(device_model))
        if precopy is not None:
            decide = precopy
            callbacks.precopy_policy = _Precopy(
                lambda stats, _: decide(stats.iteration, stats.total_written, stats.dirty_count)
            )
        kind = STREAM_PLAIN
        if postcopy is not None and checkpoint is not None:
            kind, resume, go_on = STREAM_REMUS, postcopy, checkpoint
            callbacks.postcopy = _Plain(lambda _: int(resume()))
            callbacks.checkpoint = _Plain(lambda _: int(go_on()))
        ctypes.set_errno(0)
        flags = LIVE if live else 0
        rc = self._guest.xc_domain_save(self._xch, fd, domid, flags, ctypes.byref(callbacks), kind, -1)
        return int(rc), ctypes.get_errno()

    def restore(
        self, fd: int, domid: int, *, store_evtchn: int, console_evtchn: int, checkpointed: bool = False
    ) -> Restored:
        """xc_domain_restore into a domain that exists and is empty. ``checkpointed``: the stream is one of Remus."""
        missing: list[int] = []

        def static_data_done(bits: int, _: Any) -> int:
            missing.append(bits)
            return 0

        callbacks = _RestoreCallbacks(
            static_data_done=_StaticDataDone(static_data_done),
            restore_results=_Results(lambda store, console, _: None),
            checkpoint=_Plain(lambda _: 1),
        )
        store, console = c_ulong(0), c_ulong(0)
        ctypes.set_errno(0)
        rc = self._guest.xc_domain_restore(
            *(self._xch, fd, domid, store_evtchn, ctypes.byref(store), 0, console_evtchn, ctypes.byref(console)),
            *(0, STREAM_REMUS if checkpointed else STREAM_PLAIN, ctypes.byref(callbacks), -1),
        )
        error = ctypes.get_errno()
        return Restored(int(rc), error, store.value, console.value, missing[0] if missing else None)
