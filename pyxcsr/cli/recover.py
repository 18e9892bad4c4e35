"""Undoes what a killed save has left in a domain: the tracking of its writes, a request to suspend, a suspended guest,
a lowered cap.

If the stream was complete and the guest runs elsewhere by now, use --no-resume, or destroy the domain. A guest that xl
has given away in a migration (NAME--migratedaway) is resumed only with --resume.
"""

from __future__ import annotations

import argparse
import json

from pyxcsr.cli import say, status
from pyxcsr.cli.controlling import add_run_dir, savers_for
from pyxcsr.cli.opening import find_domain, opened
from pyxcsr.errors import untouched_so_far
from pyxcsr.transfer.recovery import Recovery, recover


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.epilog = status.explained(
        "the guest runs",
        "failed, or something is left for others to undo",
        "cannot be done as asked, and nothing was done",
    )
    add = parser.add_argument
    add("domain", metavar="DOMAIN", help="id or name of the domain")
    add(
        "--resume",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="let the guest go on if it is suspended (default, but for a guest that xl has given away: "
        "NAME--migratedaway)",
    )
    add("--json", action="store_true", help="print what was found and done, or the error, as JSON")
    add_run_dir(add)


def run(args: argparse.Namespace) -> int:
    """The command. Returns the exit status: 1 if the guest does not run after it."""
    with opened("xen", "save") as hv:
        with untouched_so_far():
            domid = find_domain(hv, args.domain)
        done = recover(hv, domid, resume=args.resume, savers=savers_for(args, hv, domid))
    document = {"ok": not done.left, **done.to_dict()}
    say.report(json.dumps(document, indent=2) if args.json else told(done))
    return status.FAILED if done.left else status.DONE


def told(done: Recovery) -> str:
    """What was found and done, in words."""
    logdirty = {
        "off": "log-dirty mode is off now (Xen does not tell whether it was on)",
        "unsupported": "log-dirty mode: this Xen has none for it",
        "unknown": "log-dirty mode could not be ended",
    }
    lines = [
        "a request to suspend was still waiting for the guest, and was withdrawn"
        if done.withdrawn
        else "no request to suspend was withdrawn",
        logdirty[done.logdirty],
        *_device_model(done),
        *_cap(done),
        _suspended(done),
        *done.left,
    ]
    return "\n".join(f"domain {done.domid}: {x}" for x in lines)


def _device_model(done: Recovery) -> list[str]:
    if done.device_model is None:
        return []
    if done.suspended and not done.resumed:  # a QEMU that stands still only notes the wish
        now = "was told to stop: it does when the guest goes on, if not before"
    else:
        now = "does so no more"
    return [f"its QEMU told Xen which pages it writes, and {now}"]


def _cap(done: Recovery) -> list[str]:
    if done.cap is None:
        return []
    return [f"it had been throttled, and its cap is {done.cap or 'none'} again, as before"]


def _suspended(done: Recovery) -> str:
    if not done.suspended:
        return "it was not suspended"
    return "it was suspended, and was resumed" if done.resumed else "it was suspended"
