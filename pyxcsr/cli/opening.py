"""The hypervisor and the domain that a command was asked for."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from pyxcsr.errors import BackendUnavailable, DomainNotFound, PrivilegeError, UsageError, XcsrError, untouched_so_far
from pyxcsr.hypervisor.backend import Backend
from pyxcsr.hypervisor.names import BackendName, domain_name, id_in
from pyxcsr.hypervisor.open import StubBackend, open_hypervisor

if TYPE_CHECKING:
    from pyxcsr.hypervisor.stub.text import StubGuest

TRY_THE_STUB = "without Xen, try the built-in stub hypervisor: {command} --backend stub, or `pyxcsr demo`"


def opened(backend: BackendName, command: str) -> Backend:
    """The hypervisor, open. An error says how to go on without Xen, if Xen is what is missing."""
    try:
        with untouched_so_far():
            return open_hypervisor(backend)
    except (BackendUnavailable, PrivilegeError) as error:
        if backend == "xen" and "--backend stub" not in str(error):
            error.args = (f"{error}; {TRY_THE_STUB.format(command=f'pyxcsr {command}')}", *error.args[1:])
        raise


def make_guest(hv: StubBackend, guest: StubGuest) -> int:
    """A guest on the stub; returns its domid. Raises UsageError if the stub's machine is too small for it."""
    try:
        with untouched_so_far():
            return hv.stub.create(guest)
    except XcsrError as error:
        if error.facts.get("errno") != errno.ENOMEM:
            raise
        raise UsageError(
            f"a guest with {guest.mem >> 20} MiB of memory does not fit into the stub's machine ({error}): give it less"
        ) from error


def find_domain(hv: Backend, name: str) -> int:
    """The id of a domain given by id or name; on the stub the guest described is made."""
    if isinstance(hv, StubBackend):
        from pyxcsr.hypervisor.stub.text import StubGuest

        return make_guest(hv, StubGuest.parse(name))
    domid = id_in(name)
    if domid == 0:
        raise UsageError("domain 0 cannot be saved")
    if domid is not None:
        return hv.domain_info(domid).domid
    for domain in hv.domains():
        if domain_name(hv, domain.domid) == os.fsencode(name):
            return domain.domid
    raise DomainNotFound(f"there is no domain named {name!r} (see `xl list`)", op="name", errno=3, name=name)
