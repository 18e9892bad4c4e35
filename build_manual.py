"""Makes what the wheel brings besides the package: man pages, completions for shells, systemd's drop-in for libvirt.

The pages are made from the parser, as ``--help`` is. The completions need shtab, which nobody needs at run time; where
it is not installed, as in a dom0 without network, there are none, and the build says so.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, Optional

HERE = Path(__file__).resolve().parent
EPILOG_BEGINS = "Exit status:"

PLACES = {
    "pyxcsr.1": "share/man/man1",
    "pyxcsr-save-helper.8": "share/man/man8",
    "pyxcsr": "share/bash-completion/completions",
    "_pyxcsr": "share/zsh/site-functions",
    "pyxcsr.fish": "share/fish/vendor_completions.d",
    "pyxcsr-libvirt.conf": "share/pyxcsr",
}
"""Each file's folder, below the prefix of Python's installation."""

SHELLS = {"bash": "pyxcsr", "zsh": "_pyxcsr", "fish": "pyxcsr.fish"}

DROP_IN = """\
# systemd's drop-in for libvirt's daemon: its Xen guests are saved, restored and migrated through pyxcsr.
# Copy it to /etc/systemd/system/libvirtd.service.d/ (virtxend.service.d/ where that is the daemon), then
#     systemctl daemon-reload && systemctl restart libvirtd
[Service]
Environment=LIBXL_SAVE_HELPER={helper}
# libvirt leaves a guest suspended if its save or migration fails
Environment=PYXCSR_RESUME=yes
"""
HELPER = "/usr/local/bin/pyxcsr-save-helper"
"""Where pip puts it in dom0."""

GUESTS = {
    "bash": "_pyxcsr_guests() { compgen -W \"$(xl list 2>/dev/null | awk 'NR > 2 {print $1}')\" -- \"$1\"; }",
    "zsh": "_pyxcsr_guests() { compadd -- ${(f)\"$(xl list 2>/dev/null | awk 'NR > 2 {print $1}')\"} }",
}
"""Functions that complete the names of guests: xl's list without its heading and without domain 0."""


class Command(NamedTuple):
    """A command, as its parser has it. ``arguments``: how each is written, and what it does."""

    name: str
    summary: str
    usage: str
    arguments: list[tuple[str, str]]
    statuses: str


# From the parser


def whole_parser(command: Optional[str] = None) -> argparse.ArgumentParser:
    """The program's parser, with the arguments of one command."""
    from pyxcsr.cli.main import COMMANDS, STATUSES
    from pyxcsr.cli.parser import parser

    return parser(COMMANDS, STATUSES, command)


def parsers() -> dict[str, argparse.ArgumentParser]:
    """The parser of each command, by its name."""
    from pyxcsr.cli.main import COMMANDS

    return {name: subparsers(whole_parser(name)).choices[name] for name in COMMANDS}


def subparsers(whole: argparse.ArgumentParser) -> argparse._SubParsersAction[argparse.ArgumentParser]:
    """The action of a parser that has the commands' parsers."""
    (found,) = (x for x in whole._actions if isinstance(x, argparse._SubParsersAction))
    return found


def described_commands() -> list[Command]:
    """All of them."""
    return [described(name, parser) for name, parser in parsers().items()]


def described(name: str, parser: argparse.ArgumentParser) -> Command:
    """One command."""
    parser.formatter_class = lambda prog: argparse.HelpFormatter(prog, width=80)
    formatter = parser._get_formatter()
    shown = (x for x in parser._actions if x.help != argparse.SUPPRESS and not isinstance(x, argparse._HelpAction))
    return Command(
        name,
        " ".join((parser.description or "").split()),
        usage(parser),
        [(invocation(x, formatter), str(formatter._expand_help(x)) if x.help else "") for x in shown],
        " ".join((parser.epilog or "").split()),
    )


def usage(parser: argparse.ArgumentParser) -> str:
    """``usage: ...`` without that word, and without colours."""
    lines = re.sub("\033\\[[0-9;]*m", "", parser.format_usage()).rstrip().splitlines()
    return "\n".join(line.removeprefix("usage: ").removeprefix(" " * len("usage: ")) for line in lines)


def invocation(action: argparse.Action, formatter: argparse.HelpFormatter) -> str:
    """How an argument is written: ``--name VALUE, -n VALUE``, or the name of a positional one."""
    values = formatter._format_args(action, action.dest.upper()) if action.nargs != 0 else ""
    if not action.option_strings:
        return values
    return ", ".join(f"{x} {values}".rstrip() for x in action.option_strings)


# Man pages


def roff(text: str) -> str:
    """Text for roff: nothing in it is a request or an escape; words in backticks are bold."""
    text = text.replace("\\", "\\(rs").replace("-", "\\-")
    text = re.sub(r"``?([^`]+)``?", r"\\fB\1\\fR", text)
    return re.sub(r"^([.'])", r"\\&\1", text, flags=re.MULTILINE)


def heading(name: str, section: int, version: str, purpose: str) -> Iterator[str]:
    """What every page begins with."""
    made = float(os.environ.get("SOURCE_DATE_EPOCH") or time.time())
    yield f'.TH {name.upper()} {section} "{time.strftime("%Y-%m-%d", time.gmtime(made))}" "pyxcsr {version}"'
    yield from (".SH NAME", f"{name} \\- {roff(purpose)}")


def example(text: str) -> Iterator[str]:
    """Lines that stay as they are."""
    yield from (".nf", *(roff(line) for line in text.splitlines()), ".fi")


def tagged(items: list[tuple[str, str]]) -> Iterator[str]:
    """A list of words with their meanings."""
    for words, text in items:
        yield from (".TP", f"\\fB{roff(words)}\\fR", roff(text) or "\\&")


def variables() -> list[tuple[str, str]]:
    """What the environment may say of saves and restores; docs/save-helper.md has the same."""
    from pyxcsr.limits.words import WORDS

    return [
        ("PYXCSR_CONFIG", "the settings file, instead of /etc/pyxcsr.conf"),
        *((word.variable, word.help.replace("%%", "%")) for word in WORDS),
        ("PYXCSR_P2M_CHANGES", "follow: a PV guest that changes its p2m is saved all the same; abort: the save ends"),
        ("PYXCSR_RUN_DIR", "where a save has its socket and lock, for pyxcsr watch, tune and cancel; none: nowhere"),
        ("PYXCSR_EVENTS", "a file that events are appended to as lines of JSON; 2: standard error"),
        ("PYXCSR_LIBXENCTRL", "a libxenctrl to load, instead of that of the Xen that runs"),
        ("PYXCSR_RESUME", "yes: the guest of a save that fails is resumed, which libvirt does not do itself"),
        ("PYXCSR_RESTORE", "stock: every restore is left to Xen's own helper"),
        ("PYXCSR_SAVE", "stock: every save is left to Xen's own helper"),
        ("PYXCSR_STOCK_HELPER", "Xen's own helper, if it is not where it is looked for"),
        ("PYXCSR_BACKEND", "xen, or stub, which is for tests"),
        ("PYXCSR_STUB_GUEST", "with PYXCSR_BACKEND=stub: the guest to create, such as pv64:mem=16M"),
    ]


def of_the_helper(name: str) -> bool:
    """Whether only the save helper reads the variable."""
    mine = ("RESUME", "RESTORE", "SAVE", "STOCK_HELPER", "BACKEND", "STUB_GUEST")
    return name in {f"PYXCSR_{word}" for word in mine}


FILES = [
    ("/etc/pyxcsr.conf", "limits for all guests and for single ones, and how saves are seen and steered"),
    ("/run/pyxcsr", "sockets and locks of the saves that run"),
]


def program_page(version: str) -> str:
    """pyxcsr(1)."""
    from pyxcsr.cli.main import STATUSES
    from pyxcsr.cli.overview import DESCRIPTION

    lines = [*heading("pyxcsr", 1, version, "save, restore and live-migrate Xen guests")]
    lines += [".SH SYNOPSIS", ".B pyxcsr", ".I COMMAND", "\\&...", ".br"]
    lines += [".B pyxcsr", "[\\fB\\-h\\fR] [\\fB\\-\\-version\\fR]"]
    lines += [".SH DESCRIPTION", roff(DESCRIPTION), ".SH COMMANDS"]
    for command in described_commands():
        lines += [f".SS {roff(command.name)}", roff(command.summary), ".PP", *example(command.usage)]
        lines += tagged(command.arguments)
        if command.statuses != STATUSES:
            lines += [".PP", roff(command.statuses)]
    lines += [".SH EXIT STATUS", roff(STATUSES.removeprefix(EPILOG_BEGINS).strip())]
    lines += [".SH ENVIRONMENT", *tagged([x for x in variables() if not of_the_helper(x[0])])]
    lines += [".SH FILES", *tagged(FILES)]
    lines += [".SH SEE ALSO", ".BR pyxcsr\\-save\\-helper (8),", ".BR xl (1),", ".BR xl.cfg (5)"]
    return "\n".join(lines) + "\n"


def helper_page(version: str) -> str:
    """pyxcsr-save-helper(8)."""
    from pyxcsr.helper.arguments import USAGE

    synopsis, _, said = USAGE.removeprefix("usage: ").partition("\n\n")
    shown = [x for x in said.splitlines() if x.startswith(" ")]
    told, by_hand = said.split("\n".join(shown))
    lines = [*heading("pyxcsr-save-helper", 8, version, "writes and reads guests' memory for libxl")]
    lines += [".SH SYNOPSIS", *example("\n".join(x.removeprefix(" " * 7) for x in synopsis.splitlines()))]
    lines += [".SH DESCRIPTION", roff(told.strip()), *example("\n".join(shown)), roff(by_hand.strip())]
    lines += [".PP", "Limits for the guest's pause and the like come from variables, and from /etc/pyxcsr.conf."]
    lines += [".SH EXIT STATUS", "0 once libxl has taken the result, good or bad; 1 if it could not be told;"]
    lines += ["2 for arguments that make no sense."]
    lines += [".SH ENVIRONMENT", "An empty variable counts as unset.", *tagged(variables())]
    lines += [".SH FILES", *tagged(FILES), ".SH SEE ALSO", ".BR pyxcsr (1),", ".BR xl (1)"]
    return "\n".join(lines) + "\n"


# Completions


def completed_parser() -> argparse.ArgumentParser:
    """The whole parser with all commands' arguments, each with what completes it."""
    import shtab

    whole = whole_parser()
    choices = subparsers(whole).choices
    choices.update(parsers())
    for parser in choices.values():
        for action in parser._actions:
            value = str(action.metavar or action.dest).upper()
            if value in ("GUEST", "DOMAIN"):
                action.complete = dict.fromkeys(GUESTS, "_pyxcsr_guests")  # type: ignore[attr-defined]
            elif re.search("FILE|PATH|OUT|STREAM|REPORT|^IN$|^[AB]$|JSON", value) and action.nargs != 0:
                action.complete = shtab.FILE  # type: ignore[attr-defined]
    return whole


def completions() -> dict[str, str]:
    """File name -> script. Raises ImportError if shtab is not installed."""
    import shtab

    whole = completed_parser()
    preamble: Any = GUESTS  # which shtab wants as a text, says its annotation
    return {name: shtab.complete(whole, shell, preamble=preamble) for shell, name in SHELLS.items()}


# All of it


def contents(version: str) -> dict[str, str]:
    """File name -> text of all that can be made here. Without shtab there are no completions, which is said."""
    if str(HERE) not in sys.path:
        sys.path.insert(0, str(HERE))
    made = {
        "pyxcsr.1": program_page(version),
        "pyxcsr-save-helper.8": helper_page(version),
        "pyxcsr-libvirt.conf": DROP_IN.format(helper=HELPER),
    }
    try:
        return {**made, **completions()}
    except ModuleNotFoundError as missing:
        if missing.name != "shtab":
            raise
        print(f"pyxcsr: no completions for shells are made: {missing}", file=sys.stderr)
        return made


def make(folder: Path, version: str) -> list[tuple[str, list[str]]]:
    """Writes them into ``folder``, and returns what setuptools calls data_files: each folder with its files."""
    folder.mkdir(parents=True, exist_ok=True)
    found = []
    for name, text in contents(version).items():
        (folder / name).write_text(text)
        found.append((PLACES[name], [str(folder / name)]))
    return found


if __name__ == "__main__":
    make(Path(sys.argv[1]), sys.argv[2])
