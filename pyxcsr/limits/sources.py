"""All places where limits are given, in their order: a command's options, the environment, the settings file."""

from __future__ import annotations

import os

from pyxcsr.errors import UsageError, XcsrError
from pyxcsr.limits.file import CONTROL_WORDS, read_settings_file, wrong_run_dir
from pyxcsr.limits.given import Given, from_environment
from pyxcsr.plain import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Callable, Optional

    from pyxcsr.limits.file import SettingsFile

    ReadName = Callable[[], Optional[bytes]]
    """Reads the guest's name from xenstore, as :meth:`pyxcsr.Hypervisor.xenstore_read` does it."""


class Sources:
    """What was asked for, before it is known which guest it is for. Reads environment and file when it is made.

    ``options``: of a command line, which go before both. Raises UsageError for what is not understood, with its place.
    """

    def __init__(self, environ: Mapping[str, str], options: Optional[Given] = None) -> None:
        self._options = Given() if options is None else options
        self._environment, self._file = from_environment(environ), read_settings_file(environ)
        self.control = control_words(environ, self._file)
        """How saves are seen and steered: "run_dir" and "events", if they are given."""

    def for_guest(
        self, read_name: ReadName, live: bool, warn: Callable[[str], None], verify: bool = False
    ) -> Given:
        """What holds for a guest. ``read_name`` is called only if the file says something about single guests; if it
        fails, ``warn`` is told. Raises UsageError for limits that contradict each other.

        Where the guest is suspended first, what speaks of the time before is left out, unless it is an option. So is
        what cannot hold with ``verify``, of which ``warn`` is told.
        """
        rest = self._environment.over(self._file.for_guest(self._name(read_name, warn))).for_save(live)
        if verify:
            rest.leave_out("max_downtime", "verify sends all memory again while the guest is paused", warn)
        given = self._options.over(rest)
        given.limits()
        return given

    def _name(self, read_name: ReadName, warn: Callable[[str], None]) -> Optional[str]:
        if not self._file.names_guests:
            return None
        try:
            name = read_name()
        except XcsrError as error:
            warn(f"the guest's name cannot be read: only what {self._file.path} says of all guests holds: {error}")
            return None
        return None if name is None else os.fsdecode(name)


def control_words(environ: Mapping[str, str], file: SettingsFile) -> dict[str, str]:
    """PYXCSR_RUN_DIR and PYXCSR_EVENTS, or what the settings file says; an empty variable counts as unset.

    Raises UsageError for a folder that can be none: a save would go on where nobody sees it.
    """
    given = {x: environ.get(f"PYXCSR_{x.upper()}", "") for x in CONTROL_WORDS}
    wrong = wrong_run_dir(given["run_dir"] or "none")
    if wrong:
        raise UsageError(f"PYXCSR_RUN_DIR is {given['run_dir']!r}: {wrong}")
    return {**file.control, **{x: text for x, text in given.items() if text}}
