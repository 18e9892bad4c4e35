"""The restore side: left to Xen's own helper by this release."""

from __future__ import annotations

from collections.abc import Mapping

from pyxcsr.helper.protocol import XTL_ERROR, Channel, ChannelClosed
from pyxcsr.helper.stderr import complain
from pyxcsr.helper.stock import StockHelperError, become_stock_helper


def run_restore(words: list[str], environ: Mapping[str, str], program: str) -> int:
    """Becomes the stock helper with ``words`` (``--restore-domain`` and the rest); returns only on failure.

    The failure goes to stderr and to libxl: a log message, then ``complete``; no ``restore_results``, as
    there are none. Raises OSError if stdin or stdout is closed.
    """
    try:
        become_stock_helper(words, environ, program)
    except StockHelperError as error:
        complain(str(error))
        channel = Channel.take_over_stdio(cbflags=0)
        try:
            channel.log(XTL_ERROR, str(error), errno=error.errno)
            channel.complete(-1, error.errno)
        except ChannelClosed as closed:
            complain(str(closed))
            return 1
        return 0
