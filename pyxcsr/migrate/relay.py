"""``pyxcsr-relay``: stands between xl and the link of a compressed migration, one at each end.

    pyxcsr-relay pack LEVEL    standard input, compressed by zstd, to standard output
    pyxcsr-relay unpack        the other way round
    pyxcsr-relay facts         what pyxcsr is here, for the checks ahead of a migration

`pyxcsr migrate --compress` runs it. The answers of the other end do not go through it.
"""

from __future__ import annotations

import os
import platform
import shutil
import sys

from pyxcsr.migrate.chunks import RelayError
from pyxcsr.migrate.packing import Packer
from pyxcsr.migrate.unpacking import Unpacker
from pyxcsr.processes import hear_of_children
from pyxcsr.programs import FOLDERS, zstd_level, zstd_option

NAME = "pyxcsr-relay"
CARRIED = f"{NAME}: carried "
"""Begins the line with the figures of the sending end."""


def main(words: list[str]) -> int:
    """The program. Returns its exit status."""
    hear_of_children()
    mode, *rest = words or [""]
    try:
        if mode == "pack" and len(rest) == 1:
            return _pack(zstd_level(rest[0]))
        if mode == "unpack" and not rest:
            Unpacker(0, 1, [_zstd(), "-dcq"]).run()
            return 0
        if mode == "facts" and not rest:
            return _facts()
    except ValueError:
        pass
    except RelayError as error:
        _say(f"{NAME}: {mode}: {error}")
        return 1
    _say(f"{NAME}: {' '.join(words)!r}: {__doc__}")
    return 2


def _pack(level: int) -> int:
    packer = Packer(0, 1, [_zstd(), "-cq", zstd_option(level)])
    try:
        packer.run()
    finally:
        _say(f"{CARRIED}{packer.figures}")
    return 0


def _zstd() -> str:
    """The one that the checks ahead of the migration have found."""
    path = f"{os.environ.get('PATH', os.defpath)}:{FOLDERS}"
    return shutil.which("zstd", path=path) or "zstd"  # which is not there, and will be missed by that name


def _facts() -> int:
    """Whether the hypervisor can be opened is tried, as the helper does it."""
    import pyxcsr
    from pyxcsr.errors import XcsrError
    from pyxcsr.hypervisor.open import open_hypervisor

    print(f"python {platform.python_version()}\nversion {pyxcsr.__version__}")
    try:
        with open_hypervisor("stub" if os.environ.get("PYXCSR_BACKEND") == "stub" else "xen"):
            print("xen ok")
    except XcsrError as error:
        print("xen " + " ".join(str(error).split()))
    return 0


def _say(text: str) -> None:
    try:
        os.write(2, f"{text}\n".encode("utf-8", "replace"))
    except OSError:
        return  # nobody is left to tell, and the exit status says failure


def program() -> None:
    """The entry point."""
    sys.exit(main(sys.argv[1:]))


if __name__ == "__main__":
    program()
