"""Whose fault it is that a frame which a guest has named cannot be mapped."""

from __future__ import annotations

import errno

from pyxcsr.plain import TYPE_CHECKING

if TYPE_CHECKING:
    from pyxcsr.errors import HypervisorError

OURS = frozenset(
    {errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.EPERM, errno.EACCES, errno.EAGAIN, errno.EINTR, errno.ENOSYS}
)
"""What says of this process, or of Xen, that it cannot map any frame now."""


def is_the_guests(error: HypervisorError) -> bool:
    """Whether the guest has named a frame that is not its own, as far as the errno tells."""
    return error.errno not in OURS
