"""The folder with the sockets and locks of all saves of this machine, and what is put there."""

from __future__ import annotations

import os
import stat

from pyxcsr.plain import TYPE_CHECKING
from pyxcsr.plain_contexts import suppress

if TYPE_CHECKING:
    pass

LONGEST = 100
"""Bytes of a socket's path; sun_path has 108."""


class Unusable(Exception):
    """Something in the file system is not as it has to be. Its text is a warning for the operator."""


class Folder:
    """The folder, open. Owner and mode are checked: nobody else may put anything there.

    ``make``: it is made if it does not exist. Raises Unusable, and OSError (FileNotFoundError if it does not exist).
    """

    __slots__ = ("fd", "path")

    def __init__(self, path: str, make: bool = False) -> None:
        if not os.path.isabs(path):
            raise Unusable(f"{path} is not a path that begins with /")
        if make:
            with suppress(FileExistsError):
                os.mkdir(path, 0o700)
        self.path = path
        self.fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            self._check(os.fstat(self.fd))
        except BaseException:
            self.close()
            raise

    def _check(self, facts: os.stat_result) -> None:
        if facts.st_uid != os.geteuid():
            raise Unusable(f"the folder {self.path} belongs to user {facts.st_uid}, not to this process's")
        if facts.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise Unusable(f"the folder {self.path} can be written to by others: chmod 0700 {self.path}")

    def __enter__(self) -> Folder:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Again: nothing happens."""
        if self.fd >= 0:
            fd, self.fd = self.fd, -1
            os.close(fd)

    def domids(self) -> list[int]:
        """The domains of which there is a lock, whether anybody holds it or not. Raises OSError."""
        import re  # for those who look at all saves, and wait for nothing

        found = (re.fullmatch(r"([0-9]{1,5})\.lock", x, re.ASCII) for x in os.listdir(self.fd))
        return sorted(int(x[1]) for x in found if x)

    def address(self, name: str) -> str:
        """Where a socket in it is bound and found, whatever the length of the folder's own name."""
        path = f"{self.path}/{name}"
        return path if len(os.fsencode(path)) <= LONGEST else f"/proc/self/fd/{self.fd}/{name}"

    def remove_socket(self, name: str) -> bool:
        """Removes a socket that nobody listens to any more; whether there was one. Raises Unusable if there is anything
        else; OSError."""
        try:
            facts = os.stat(name, dir_fd=self.fd, follow_symlinks=False)
        except FileNotFoundError:
            return False
        if not stat.S_ISSOCK(facts.st_mode) or facts.st_uid != os.geteuid():
            raise Unusable(f"{self.path}/{name} is not a socket of ours, and is left alone")
        os.unlink(name, dir_fd=self.fd)
        return True


def socket_name(domid: int) -> str:
    """A save's socket."""
    return f"{domid}.sock"


def lock_name(domid: int) -> str:
    """A save's lock."""
    return f"{domid}.lock"
