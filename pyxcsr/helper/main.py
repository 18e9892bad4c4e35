"""The entry point ``pyxcsr-save-helper``. Keeps its imports few: it runs while a guest's user waits."""

from __future__ import annotations

import gc
import os
import sys

from pyxcsr.errors import UsageError
from pyxcsr.helper.arguments import RESTORE, SAVE, USAGE
from pyxcsr.helper.ending import stay
from pyxcsr.helper.stderr import complain, print_traceback
from pyxcsr.plain import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import NoReturn, Optional

    from pyxcsr.helper.ending import Leave

EXIT_USAGE = 2


def program() -> NoReturn:
    """The program: ends the process as soon as libxl knows the result, for libxl waits for that, and perhaps a guest.

    Nothing of Python's own needs to be taken down first: all that is written went through descriptors, not buffers.
    Nor need cycles be collected: a save or a restore makes few, and the collector would run while a guest waits.
    """
    gc.disable()
    os._exit(main(leave=os._exit))


def main(argv: Optional[list[str]] = None, leave: Leave = stay) -> int:
    """Runs the helper with ``argv`` (default: the process's); returns the exit status.

    ``leave``: see run_save(); by default everything is closed before this returns.

    0: libxl was told the result, good or bad; 1: it could not be told; 2: wrong arguments.
    """
    words = sys.argv[1:] if argv is None else argv
    try:
        return _run(words, leave)
    except UsageError as error:
        complain(f"{error}\n{USAGE}")
        return EXIT_USAGE
    except OSError as error:
        complain(f"stdin or stdout is not usable ({error}): libxl starts this program with pipes there")
        return 1
    except BaseException as error:  # never a silent death
        print_traceback(error)
        return 1


def _run(words: list[str], leave: Leave) -> int:
    mode = words[0] if words else ""
    if mode == SAVE:
        from pyxcsr.helper.saving import run_save

        return run_save(words, os.environ, sys.argv[0], leave)
    if mode == RESTORE:
        from pyxcsr.helper.restoring import run_restore

        return run_restore(words, os.environ, sys.argv[0])
    if mode in ("-h", "--help"):
        complain(USAGE)
        return 0
    raise UsageError(f"{mode!r} is not a mode of this program" if mode else "no arguments")


if __name__ == "__main__":
    program()
