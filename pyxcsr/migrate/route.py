"""The way to the other end, and the commands that go it; everything is quoted for the shells that read it."""

from __future__ import annotations

import re
import shlex
from typing import Optional

from pyxcsr.errors import UsageError

HOST = re.compile(r"[A-Za-z0-9_\[][A-Za-z0-9_.@:%\[\]+-]*", re.ASCII)
"""What a host may look like: it must be no option of ssh's, and nothing that a shell reads as more than a word."""

LOCAL = "localhost"


class Route:
    """Where the guest goes. ``ssh`` None: to this machine itself, without any ssh."""

    __slots__ = ("host", "ssh")

    def __init__(self, host: str, ssh: Optional[list[str]]) -> None:
        self.host, self.ssh = host, ssh

    @property
    def local(self) -> bool:
        """Whether it is this machine."""
        return self.ssh is None

    def words(self, command: str) -> list[str]:
        """A command line that runs ``command`` by the shell of the other end."""
        return ["sh", "-c", command] if self.ssh is None else [*self.ssh, self.host, command]

    def shell(self, command: str) -> str:
        """The same as text for a shell here."""
        return command if self.ssh is None else shlex.join([*self.ssh, self.host, command])


def route(host: str, ssh: Optional[str]) -> Route:
    """The way to a host. ``ssh``: the command for it, None: not given, "": none. Raises UsageError.

    Without one the host has to be localhost, and no other host is taken without one.
    """
    if not HOST.fullmatch(host):
        raise UsageError(f"HOST is {host!r}, which is not the name or address of a host")
    if ssh is None:
        return Route(host, None if host == LOCAL else ["ssh"])
    try:
        words = shlex.split(ssh)
    except ValueError as error:
        raise UsageError(f"--ssh is {ssh!r}: {error}") from None
    if not words and host != LOCAL:
        raise UsageError(f"without ssh a guest can be migrated to {LOCAL} only, not to {host}: leave --ssh '' out")
    return Route(host, words or None)


class Programs:
    """Absolute paths at one end. ``helper`` None: Xen's own; ``relay`` None: nothing is compressed."""

    __slots__ = ("helper", "relay", "xl")

    def __init__(self, xl: str, helper: Optional[str], relay: Optional[str] = None) -> None:
        self.xl, self.helper, self.relay = xl, helper, relay


def receive(there: Programs, options: list[str]) -> str:
    """What the shell of the other end runs. ``options``: of xl, as -v."""
    variable = ["-u", "LIBXL_SAVE_HELPER"] if there.helper is None else [f"LIBXL_SAVE_HELPER={there.helper}"]
    command = shlex.join(["env", *variable, there.xl, *options, "migrate-receive"])
    return command if there.relay is None else f"{shlex.join([there.relay, 'unpack'])} | {command}"


def transport(way: Route, received: str, pack: Optional[list[str]]) -> str:
    """What xl's shell here runs, in HOST's place. ``pack``: the relay of this end and its arguments."""
    command = way.shell(received)
    return command if pack is None else f"{shlex.join(pack)} | {command}"


def xl_words(xl: str, guest: str, carried: str, options: list[str], config: Optional[str]) -> list[str]:
    """`xl migrate` with HOST as a whole command, as -s '' has it."""
    given = [] if config is None else ["-C", config]
    return [xl, *options, "migrate", "-s", "", *given, "--", guest, carried]


def shown(words: list[str], environ: dict[str, str]) -> str:
    """The command as one may type it, with the variables that are set for it."""
    return shlex.join(["env", *(f"{name}={value}" for name, value in sorted(environ.items())), *words])
