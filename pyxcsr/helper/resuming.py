"""A guest whose save failed is resumed here, for programs on libxl that do not do it: libvirt's driver is one.

Never if the stream is complete (transfer/pause.py): whoever has read it may have the guest running. libvirt's driver
resumes a guest neither after a save (libxlDoDomainSave) nor after a migration whose sending has failed
(libxlDoMigrateSrcSend; its confirm phase is skipped then). Where a program resumes it all the same, that fails:
xc_domain_resume finds a guest that is not suspended (EINVAL). It does not look only if it is called with fast = 0,
which would harm a PV guest that runs; so this is not the default.
"""

from __future__ import annotations

from pyxcsr.errors import SuspendError, XcsrError, note
from pyxcsr.helper.protocol import ChannelClosed
from pyxcsr.plain import TYPE_CHECKING
from pyxcsr.suspend.base import Suspend, as_suspend
from pyxcsr.suspend.going_on import goes_on, qemu_of, still_suspended
from pyxcsr.suspend.xenstore import is_suspended, suspends_yet, withdraw

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Protocol

    from pyxcsr.suspend.base import SuspendCallable
    from pyxcsr.suspend.xenstore import DomainControl

    class Control(DomainControl, Protocol):
        """The part of a Hypervisor that is needed here."""

        @property
        def backend(self) -> str:
            """What it is linked with."""

POLL = 0.001


class Resuming(Suspend):
    """Suspends by ``suspend``, and resumes the guest, and its QEMU, without libxl. ``tell``: a line for libxl's log.

    Only a guest that was to be suspended here: another toolstack may have suspended it in the midst of this save, and
    have its copy running by the time that this save fails.
    """

    def __init__(self, hv: Control, domid: int, suspend: SuspendCallable, tell: Callable[[str], None]) -> None:
        self._hv, self._domid, self._suspend, self._tell = hv, domid, as_suspend(suspend), tell
        self._ours = False
        qemu_of(hv, domid)  # loads now what letting the guest go on needs: the package may be replaced meanwhile

    def watched_by(self, watch: Callable[[], None]) -> None:
        self._suspend.watched_by(watch)

    def __call__(self) -> None:
        self._ours = True  # an attempt may have succeeded although it failed here
        try:
            self._suspend()
        except ChannelClosed as gone:
            if gone.facts["direction"] == "answers":  # libxl was asked, and so the guest may have been
                self._await_after(gone)
            raise
        except SuspendError as failed:  # only where its time for the guest is over libxl withdraws its request
            self._await_after(failed)
            raise

    def _await_after(self, error: XcsrError) -> None:
        try:
            self._await(error)
        except XcsrError as problem:
            note(error, f"besides: {problem}")

    def _await(self, error: XcsrError) -> None:
        """Withdraws libxl's request to suspend. If the guest has taken it, waits for it to suspend: it is resumed only
        if it is suspended when the save ends, and nobody is left that would do so later."""
        if withdraw(self._hv, self._domid):
            return
        if not suspends_yet(lambda: is_suspended(self._hv.domain_info(self._domid)), POLL):
            note(
                error,
                f"besides, domain {self._domid} may have been asked to suspend, and has not done so: should it do so "
                f"later, let it go on with `pyxcsr recover {self._domid}`",
            )

    def resume(self) -> None:
        """Raises HypervisorError, and SuspendError if Xen calls the guest suspended all the same.

        That its QEMU stands still is told: the guest must not be called suspended then.
        """
        if not self._ours:
            self._tell(f"domain {self._domid}: it has been suspended by somebody else, and is left to them")
            return
        runs, problem = goes_on(self._hv, self._domid)
        if not runs:
            raise still_suspended(self._domid)
        but = "" if problem is None else f", but its devices may stand still: {problem}"
        self._tell(f"domain {self._domid}: the save has failed, and the guest goes on (PYXCSR_RESUME){but}")
