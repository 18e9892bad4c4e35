"""The limits of `pyxcsr save` as options; the environment and the settings file have the same words."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping

from pyxcsr.cli import say
from pyxcsr.errors import UsageError
from pyxcsr.limits.given import Given
from pyxcsr.limits.sources import Sources
from pyxcsr.limits.variables import unknown_variables
from pyxcsr.limits.words import ABOUT, BY_NAME, NONE, WORDS, Word


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """An option for each word."""
    group = parser.add_argument_group(
        "limits",
        "Each may also be set by a variable (PYXCSR_MAX_DOWNTIME and so on) or in /etc/pyxcsr.conf. An option "
        'overrides a variable, and a variable overrides the file; "none" lifts a limit that another place sets.',
    )
    for word in WORDS:
        if word.metavar:
            group.add_argument(word.option, metavar=word.metavar, help=word.help)
        else:
            group.add_argument(word.option, action=argparse.BooleanOptionalAction, default=None, help=word.help)


def asked(args: argparse.Namespace, environ: Mapping[str, str]) -> Sources:
    """What options, environment and file say. Raises UsageError for what is not understood.

    A variable that there is not is told of, also with --quiet: a limit that was wanted does not hold.
    """
    for text in unknown_variables(environ):
        say.note(text)
    options = Given()
    for word, text in _texts(args):
        options.add(word.name, text, word.option, word.option)
    if not args.live:
        _refuse_live_ones(options)
    if args.verify and options.values.get("max_downtime") is not None:
        raise UsageError("--max-downtime: of no use with --verify, which sends all again while the guest is paused")
    return Sources(environ, options)


def variables(args: argparse.Namespace) -> dict[str, str]:
    """The options as the variables that say the same to a save helper.

    What an option lifts takes with it what the environment says about that, as where options are read.
    """
    given = {word.name: text for word, text in _texts(args)}
    lifted = [x for x, one in ABOUT.items() if given.get(one, "").strip() == NONE and x not in given]
    return {BY_NAME[x].variable: text for x, text in {**given, **dict.fromkeys(lifted, NONE)}.items()}


def _texts(args: argparse.Namespace) -> Iterator[tuple[Word, str]]:
    for word in WORDS:
        value = getattr(args, word.name)
        if value is not None:
            yield word, str(value) if word.metavar else "yes" if value else "no"


def _refuse_live_ones(options: Given) -> None:
    given = [name for name, value in options.values.items() if value is not None and value is not False]
    wrong = [x.option for x in WORDS if x.only_live and x.name in given]
    if options.values.get("on_timeout") == "suspend":
        wrong.append("--on-timeout suspend")
    if wrong:
        raise UsageError(f"{' and '.join(wrong)}: of no use with --no-live, which suspends the guest first")
