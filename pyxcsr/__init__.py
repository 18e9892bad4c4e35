"""pyxcsr saves and live-migrates Xen guests.

>>> import pyxcsr
>>> with pyxcsr.open_hypervisor("stub") as hv, open("/dev/null", "wb") as out:
...     domid = hv.stub.create(pyxcsr.StubGuest.pv64(mem="16M"))
...     report = pyxcsr.save(hv, domid, out)
>>> report.nr_pfns
4096

The names below are the public interface; they are loaded when first used, because programs that a guest waits
for (the save helper) need few of them.
"""

from __future__ import annotations

__version__ = "0.1.0"

TYPE_CHECKING = False  # for type checkers True, as typing's, which takes as long to load as Python itself

if TYPE_CHECKING:
    from typing import Any

    from pyxcsr.checkpointed import Checkpointed
    from pyxcsr.control.client import RunningSave, running
    from pyxcsr.control.control import Control
    from pyxcsr.control.lock import is_being_saved
    from pyxcsr.errors import (
        BackendUnavailable,
        BeingSaved,
        Cancelled,
        ChecksumMismatch,
        ControlError,
        DeviceModelError,
        DomainDying,
        DomainNotFound,
        GuestStateError,
        HypervisorError,
        IncompleteStream,
        InputError,
        LogDirtyUnsupported,
        MigrateError,
        NotAStream,
        NotSupported,
        OutputError,
        P2mChanged,
        P2mError,
        PageError,
        PageTableError,
        PrivilegeError,
        ProbeError,
        StreamError,
        StreamTruncated,
        SuspendError,
        SuspendTimeout,
        UsageError,
        VerifyMismatch,
        VersionMismatch,
        XcsrError,
    )
    from pyxcsr.frames import PageType
    from pyxcsr.hypervisor.interface import DomainInfo, Hypervisor
    from pyxcsr.hypervisor.names import BackendName
    from pyxcsr.hypervisor.open import open_hypervisor
    from pyxcsr.hypervisor.stub.text import StubGuest
    from pyxcsr.image.memory import MemoryImage
    from pyxcsr.limits.limits import Limits
    from pyxcsr.measure.dirty_rate import dirty_rate
    from pyxcsr.measure.predict import Prediction
    from pyxcsr.measure.result import DirtyRate
    from pyxcsr.policies.adaptive import AdaptivePolicy
    from pyxcsr.policy import Decision, P2mChanges, P2mLimits, Policy, PrecopyStats, SimplePolicy
    from pyxcsr.report import (
        Checkpoint,
        CheckpointsReport,
        P2mReport,
        PassReport,
        Phase,
        PhysmapReport,
        Progress,
        RestoreReport,
        SaveReport,
    )
    from pyxcsr.stream.reader import StreamReader
    from pyxcsr.stream.rules.verify import verify
    from pyxcsr.suspend.base import Suspend
    from pyxcsr.suspend.going_on import resume
    from pyxcsr.suspend.xenstore import XenstoreSuspend
    from pyxcsr.transfer.recovery import Recovery, recover
    from pyxcsr.transfer.restore import restore
    from pyxcsr.transfer.save import save

_ERRORS = (
    "BackendUnavailable",
    "BeingSaved",
    "Cancelled",
    "ChecksumMismatch",
    "ControlError",
    "DeviceModelError",
    "DomainDying",
    "DomainNotFound",
    "GuestStateError",
    "HypervisorError",
    "VerifyMismatch",
    "IncompleteStream",
    "InputError",
    "LogDirtyUnsupported",
    "MigrateError",
    "NotAStream",
    "NotSupported",
    "OutputError",
    "P2mChanged",
    "P2mError",
    "PageError",
    "PageTableError",
    "PrivilegeError",
    "ProbeError",
    "StreamError",
    "StreamTruncated",
    "SuspendError",
    "SuspendTimeout",
    "UsageError",
    "VersionMismatch",
    "XcsrError",
)

_WHERE = {
    **dict.fromkeys(_ERRORS, "errors"),
    "Checkpoint": "report",
    "Checkpointed": "checkpointed",
    "CheckpointsReport": "report",
    "Control": "control.control",
    "RunningSave": "control.client",
    "is_being_saved": "control.lock",
    "running": "control.client",
    "PageType": "frames",
    "DomainInfo": "hypervisor.interface",
    "Hypervisor": "hypervisor.interface",
    "BackendName": "hypervisor.names",
    "open_hypervisor": "hypervisor.open",
    "StubGuest": "hypervisor.stub.text",
    "AdaptivePolicy": "policies.adaptive",
    "DirtyRate": "measure.result",
    "Prediction": "measure.predict",
    "dirty_rate": "measure.dirty_rate",
    "Decision": "policy",
    "Limits": "limits.limits",
    "MemoryImage": "image.memory",
    "P2mChanges": "policy",
    "P2mLimits": "policy",
    "Policy": "policy",
    "PrecopyStats": "policy",
    "SimplePolicy": "policy",
    "Recovery": "transfer.recovery",
    "recover": "transfer.recovery",
    "P2mReport": "report",
    "PassReport": "report",
    "Phase": "report",
    "PhysmapReport": "report",
    "RestoreReport": "report",
    "Progress": "report",
    "SaveReport": "report",
    "restore": "transfer.restore",
    "save": "transfer.save",
    "StreamReader": "stream.reader",
    "verify": "stream.rules.verify",
    "Suspend": "suspend.base",
    "resume": "suspend.going_on",
    "XenstoreSuspend": "suspend.xenstore",
}

__all__ = [
    "AdaptivePolicy",
    "BackendName",
    "BackendUnavailable",
    "BeingSaved",
    "Cancelled",
    "Checkpoint",
    "Checkpointed",
    "CheckpointsReport",
    "ChecksumMismatch",
    "Control",
    "ControlError",
    "Decision",
    "DeviceModelError",
    "DirtyRate",
    "DomainDying",
    "DomainInfo",
    "DomainNotFound",
    "GuestStateError",
    "Hypervisor",
    "HypervisorError",
    "IncompleteStream",
    "InputError",
    "Limits",
    "LogDirtyUnsupported",
    "MemoryImage",
    "MigrateError",
    "NotAStream",
    "NotSupported",
    "OutputError",
    "P2mChanged",
    "P2mChanges",
    "P2mError",
    "P2mLimits",
    "P2mReport",
    "PageError",
    "PageTableError",
    "PageType",
    "PassReport",
    "Phase",
    "PhysmapReport",
    "Policy",
    "PrecopyStats",
    "Prediction",
    "PrivilegeError",
    "ProbeError",
    "Progress",
    "Recovery",
    "RestoreReport",
    "RunningSave",
    "SaveReport",
    "SimplePolicy",
    "StreamError",
    "StreamReader",
    "StreamTruncated",
    "StubGuest",
    "Suspend",
    "SuspendError",
    "SuspendTimeout",
    "UsageError",
    "VerifyMismatch",
    "VersionMismatch",
    "XcsrError",
    "XenstoreSuspend",
    "__version__",
    "dirty_rate",
    "is_being_saved",
    "open_hypervisor",
    "recover",
    "restore",
    "resume",
    "running",
    "save",
    "verify",
]


def __getattr__(name: str) -> Any:
    where = _WHERE.get(name)
    if where is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(f"{__name__}.{where}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
