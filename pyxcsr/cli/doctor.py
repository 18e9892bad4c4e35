"""Says what this host has of Xen and of pyxcsr, and what will and what will not work with it.

Nothing is changed, here or on HOST.
"""

from __future__ import annotations

import argparse
import json
from typing import Optional

from pyxcsr.cli import say, status
from pyxcsr.doctor.found import Ability, Diagnosis, Finding
from pyxcsr.doctor.host import look
from pyxcsr.doctor.judge import abilities, between, findings
from pyxcsr.errors import ProbeError
from pyxcsr.hypervisor.names import BACKENDS
from pyxcsr.migrate.facts import Facts
from pyxcsr.migrate.home import HOME, beside
from pyxcsr.migrate.probe import facts_of
from pyxcsr.migrate.route import route


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.epilog = status.explained(
        "nothing is amiss: all works that this Xen allows",
        "something is amiss, and the text says what",
        "cannot be asked for like this",
    )
    add = parser.add_argument
    add("host", metavar="HOST", nargs="?", help="ask this host, too: whether guests can be migrated there")
    add("--ssh", metavar="COMMAND", help='instead of ssh, as "ssh -p 2222"')
    add("--backend", choices=BACKENDS, default="xen", help="hypervisor (default: xen; never chosen for you)")
    add("--json", action="store_true", help="print what was found as JSON")


def run(args: argparse.Namespace) -> int:
    """The command. Returns the exit status."""
    found = diagnosed(args)
    if args.json:
        say.report(json.dumps({"ok": found.healthy, **found.to_dict()}, indent=2))
    else:
        say.report(told(found))
    return status.DONE if found.healthy else status.FAILED


def diagnosed(args: argparse.Namespace) -> Diagnosis:
    """Looks at this host, and at the other one."""
    way = route(args.host, args.ssh) if args.host else None
    host = look(args.backend)
    here, told_here = _asked_here()
    result = Diagnosis([*host.findings, *told_here], abilities(host, here))
    if way is not None:
        try:
            there = facts_of(way, None)
        except ProbeError as error:
            result.findings.append(Finding(f"{args.host}", str(error), "bad", f"try `{way.shell('true')}`"))
            return result
        result.findings += findings(there, False)
        result.abilities.append(between(host, here, there))
    return result


def _asked_here() -> tuple[Optional[Facts], list[Finding]]:
    """What this host's own programs say. That they do not answer, or not in words, is a finding, and no error."""
    try:
        here = facts_of(HOME, beside())
    except ProbeError as error:
        return None, [Finding("xl", str(error), "bad", "see what `xl list` and `xl info` say")]
    return here, findings(here, True)


MARKS = {"ok": "  ", "note": "- ", "bad": "! "}


def told(found: Diagnosis) -> str:
    """For people: what was found, what to do, what works."""
    width = max(len(x.name) for x in found.findings)
    lines = [line for x in found.findings for line in _finding(x, width)]
    lines += ["", *(_ability(x) for x in found.abilities), ""]
    lines.append("Nothing is amiss." if found.healthy else "Something is amiss: see the lines with ! and NO.")
    return "\n".join(lines)


def _finding(x: Finding, width: int) -> list[str]:
    first = f"{MARKS[x.verdict]}{x.name:<{width}}  {x.text}"
    return [first, f"  {'':<{width}}  {x.advice}"] if x.advice else [first]


def _ability(x: Ability) -> str:
    answer = {True: "yes", None: "?", False: "NO" if x.expected else "no"}[x.works]
    return f"{answer:<4} {x.name}{f': {x.why}' if x.why else ''}"
