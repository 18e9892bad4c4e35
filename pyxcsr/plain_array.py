"""array, without collections, which takes a tenth as long to load as Python itself.

array wants only to be known to collections.abc as a sequence. That is ``_collections_abc``, which Python has loaded
already, and which stands for it while array is loaded; nothing of this is left afterwards. It is done only where there
can be no other thread that would see it.
"""

from __future__ import annotations

import _collections_abc
import sys

_NAMES = ("collections", "collections.abc")

if "threading" in sys.modules or any(x in sys.modules for x in _NAMES):
    from array import array
else:
    sys.modules.update(dict.fromkeys(_NAMES, _collections_abc))
    try:
        from array import array
    finally:
        for name in _NAMES:
            del sys.modules[name]

__all__ = ["array"]
