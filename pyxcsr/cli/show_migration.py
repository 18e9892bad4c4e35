"""What a person sees of a migration."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any, Callable, Optional

from pyxcsr.cli import failure, say
from pyxcsr.cli.progress import of_save, progress_line
from pyxcsr.cli.sending import Sending, folder_of_saves
from pyxcsr.errors import MigrateError
from pyxcsr.migrate import verdict
from pyxcsr.migrate.facts import Domain, plain
from pyxcsr.migrate.packing import Figures
from pyxcsr.migrate.running import Ended
from pyxcsr.migrate.transcript import PROGRESS

MIB = 1 << 20
ENOUGH = 16 * MIB
"""Bytes from which on a rate means something."""

MOST_ERRORS = 12
PATIENCE = 0.2


def on_terminal(args: argparse.Namespace) -> bool:
    """Whether progress is to be drawn over itself."""
    wanted = args.progress is not False and not args.quiet
    return wanted and sys.stderr is not None and sys.stderr.isatty()


class Shown:
    """What comes, as it comes, on standard error: xl's own messages, and how far the save is.

    The latter is told by the save itself, where it has a socket that can be found (docs/control.md); elsewhere it is
    xl's text, if progress is wanted.
    """

    def __init__(self, args: argparse.Namespace, domid: int) -> None:
        self._quiet = args.quiet
        wanted = on_terminal(args) or bool(args.progress)
        self._line = progress_line(True, of_save, "the other end takes nothing") if wanted and not args.quiet else None
        self._save = Sending(domid, folder_of_saves() if self._line is not None else None)

    def text(self, text: str) -> None:
        """What xl prints."""
        line = self._line
        shows_progress = line is not None and not self._save.found
        kept = "".join(x for x in text.splitlines(keepends=True) if shows_progress or not PROGRESS.search(x))
        if self._quiet or not kept:
            return
        if line is not None:
            line.done()
        say.attempt(sys.stderr, kept, PATIENCE)

    def tick(self) -> None:
        """To be called some times a second."""
        if self._line is None:
            return
        now = self._save.look()
        if now is not None:
            self._line(now)
        else:
            self._line.tick()

    def done(self) -> None:
        """xl has ended."""
        self._save.close()
        if self._line is not None:
            self._line.done()


def slow(args: argparse.Namespace) -> Callable[[str], None]:
    """Says that an end takes long to answer."""
    return lambda text: None if args.quiet else say.note(text)


def report(args: argparse.Namespace, domain: Domain, host: str, place: verdict.Place, ended: Ended) -> None:
    """A guest that has been migrated."""
    notes = []
    if ended.status:
        notes.append(f"xl ended with status {ended.status} all the same")
    if ended.cancelled:
        notes.append("it was too late to cancel: the guest had been given away")
    figures = ended.transcript.figures
    if args.json:
        say.report(json.dumps({
            "ok": True, "guest": domain.name, "host": host, "where": place.where, "domid": place.domid,
            "seconds": round(ended.seconds, 3), "compression": compression(figures), "notes": notes,
        }, indent=2))  # fmt: skip
    elif not args.quiet:
        told = [f"{plain(domain.name)}: {place.text}; {ended.seconds:.1f} s in all", *notes, *in_words(figures)]
        say.report("\n".join(told))


def compression(figures: Optional[Figures]) -> Optional[dict[str, Any]]:
    """The figures as JSON has them. ``set_pace``: zstd, link or stream, whichever the others waited for most."""
    if figures is None or not figures.nr_in:
        return None
    return {
        "stream_bytes": figures.nr_in, "sent_bytes": figures.nr_out, "zstd_seconds": figures.zstd_seconds,
        "link_seconds": figures.link_seconds, "stream_seconds": figures.source_seconds, "set_pace": set_pace(figures),
    }  # fmt: skip


def set_pace(figures: Figures) -> str:
    """What was waited for most: zstd, the link, or more of the stream."""
    waits = {"stream": figures.source_seconds, "link": figures.link_seconds, "zstd": figures.zstd_seconds}
    return max(waits, key=lambda x: waits[x])


def in_words(figures: Optional[Figures]) -> list[str]:
    """The same for a person. How fast a link would be that never had to be waited for, nobody can tell."""
    if figures is None or not figures.nr_in:
        return []
    share = 100 * figures.nr_out / figures.nr_in
    told = [f"zstd: {figures.nr_in / MIB:.1f} MiB went over the link as {figures.nr_out / MIB:.1f} MiB ({share:.0f} %)"]
    if figures.nr_in >= ENOUGH and set_pace(figures) == "zstd":
        rate = figures.nr_in / max(figures.zstd_seconds, 0.001) / MIB
        told.append(
            f"zstd slowed the migration down: it took {rate:.0f} MiB/s, and the link waited for it. Take a lower "
            "level, or leave --compress out if the link takes more than that"
        )
    return told


def failed(domain: Domain, host: str, place: verdict.Place, ended: Ended, side: str) -> str:
    """Which side failed, and where the guest is."""
    if not ended.status and place.where != verdict.HERE:
        return f"xl says that {plain(domain.name)} was migrated to {host}, but: {place.text}"
    who = "this side failed" if side == verdict.SENDER else f"{host} failed, or the connection to it"
    how = f"xl ended with status {ended.status}" if ended.status >= 0 else f"xl ended by signal {-ended.status}"
    return f"{plain(domain.name)} was not migrated: {who} ({how}); {place.text}"


def tell(args: argparse.Namespace, error: MigrateError, ended: Ended) -> None:
    """A failure; what was said of errors meanwhile is added to it."""
    if args.json or args.quiet:
        error.__notes__ = ended.transcript.errors[-MOST_ERRORS:]  # type: ignore[attr-defined, unused-ignore]
    failure.tell(error, as_json=args.json, beside=False)
