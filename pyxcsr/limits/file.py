"""The settings file: limits for all guests, and for single ones by name.

    [guests]
    max_downtime = 300ms

    [guest db1]
    timeout = 10m
    on_timeout = suspend

    [control]
    run_dir = /run/pyxcsr

All of it is checked whichever guest is saved: a mistake is not to come to light when a certain guest must go.
"""

from __future__ import annotations

from pyxcsr.errors import UsageError
from pyxcsr.limits.given import Given
from pyxcsr.limits.words import BY_NAME
from pyxcsr.plain import TYPE_CHECKING

if TYPE_CHECKING:
    import re
    from collections.abc import Iterator, Mapping
    from typing import Optional

VARIABLE = "PYXCSR_CONFIG"
DEFAULT_PATH = "/etc/pyxcsr.conf"
ALL = "guests"
ONE = "guest "
CONTROL = "control"
CONTROL_WORDS = ("run_dir", "events")
STDERR = "2"
"""Where events go: a descriptor that every program has."""
LARGEST = 1 << 20
"""Bytes; what is larger is no settings file."""

if TYPE_CHECKING:
    Places = dict[tuple[str, str], int]


class SettingsFile:
    """What a settings file says. ``path``: its name, for messages; ``control``: how saves are seen and steered."""

    __slots__ = ("_all", "_guests", "control", "path")

    def __init__(self, path: str, everybody: Given, guests: dict[str, Given], control: dict[str, str]) -> None:
        self.path, self._all, self._guests, self.control = path, everybody, guests, control

    @property
    def names_guests(self) -> bool:
        """Whether it says something about single guests."""
        return bool(self._guests)

    def for_guest(self, name: Optional[str]) -> Given:
        """What it says of a guest; None: its name is not known."""
        own = self._guests.get(name) if name is not None else None
        return self._all if own is None else own.over(self._all)


NO_FILE = SettingsFile("", Given(), {}, {})


def read_settings_file(environ: Mapping[str, str]) -> SettingsFile:
    """Reads the file that PYXCSR_CONFIG names, which must exist then, or else /etc/pyxcsr.conf if there is one.

    Raises UsageError, with file and line, for anything in it that is not understood.
    """
    named = environ.get(VARIABLE, "")
    path = named or DEFAULT_PATH
    try:
        with open(path, "rb") as file:
            data = file.read(LARGEST + 1)
    except FileNotFoundError:
        if named:
            raise UsageError(f"there is no settings file {path}, which {VARIABLE} names") from None
        return NO_FILE
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise UsageError(f"the settings file {path} cannot be read: {why}") from None
    return parse_settings(path, data)


def parse_settings(path: str, data: bytes) -> SettingsFile:
    """What a settings file with this content says. Raises UsageError as :func:`read_settings_file`."""
    if len(data) > LARGEST:
        raise UsageError(f"{path} is larger than {LARGEST} bytes: that is no settings file")
    try:
        text = data.decode("utf-8-sig")  # some editors put a mark ahead of it
    except UnicodeDecodeError as error:
        raise _wrong(path, error.object[: error.start].count(b"\n") + 1, "this is not UTF-8") from None
    lines = text.replace("\0", "\N{REPLACEMENT CHARACTER}").splitlines()
    everybody = Given()
    guests: dict[str, Given] = {}
    sections, places = _sections(path, lines)
    control = sections.pop(CONTROL, {})
    for word, value in control.items():
        what = _wrong_control(word, value)
        if what:
            raise _wrong(path, places[CONTROL, word], what)
    for section, words in sections.items():
        given = everybody
        if section != ALL:
            given = _new_guest(guests, path, section, places[section, ""])
        for word, value in words.items():
            _add(given, path, places[section, word], word, value)
    settings = SettingsFile(path, everybody, guests, control)
    for given in (everybody, *(settings.for_guest(x) for x in guests)):
        given.limits()
    return settings


def _wrong_control(word: str, value: str) -> str:
    """What is wrong with a word of [control]; "" if it is all right. The file is read by programs in any folder, none
    of which has been handed a descriptor by who wrote it."""
    if word not in CONTROL_WORDS:
        return f"there is no setting {word!r} in [{CONTROL}] (there are {', '.join(CONTROL_WORDS)})"
    if word == "run_dir":
        return wrong_run_dir(value) and f"run_dir is {value!r}: {wrong_run_dir(value)}"
    if value.startswith("/") or value == STDERR:
        return ""
    return f"events is {value!r}: give a file's path that begins with /, or {STDERR} for standard error"


def wrong_run_dir(value: str) -> str:
    """What is wrong with it as the folder of saves' sockets, wherever it was given; "" if it is all right."""
    return "" if value.startswith("/") or value == "none" else "give a path that begins with /, or none for no folder"


def _guest(path: str, section: str, line: int) -> str:
    name = section[len(ONE) :].strip()
    if not section.startswith(ONE) or not name:
        raise _wrong(path, line, f"there is no section [{section}]: write [{ALL}], [{CONTROL}], or [{ONE}NAME] with "
                     "a guest's name")
    return name


def _new_guest(guests: dict[str, Given], path: str, section: str, line: int) -> Given:
    """The same name with other blanks before it is the same guest's, and must not put away what stood there first."""
    name = _guest(path, section, line)
    if name in guests:
        raise _wrong(path, line, f"the section of the guest {name!r} stands twice")
    guests[name] = Given()
    return guests[name]


def _add(given: Given, path: str, line: int, word: str, value: str) -> None:
    if word not in BY_NAME:
        raise _wrong(path, line, f"there is no setting {word!r} (there are {', '.join(BY_NAME)})")
    place = f"{path}, line {line}"
    given.add(word, value, place, f"{place}: {word}")


def _wrong(path: str, line: int, what: str) -> UsageError:
    return UsageError(f"{path}, line {line}: {what}", path=path, line=line)


def _word(text: str) -> str:
    """A word as it stands in a file: also as on the command line, with hyphens."""
    return text.strip().lower().replace("-", "_")


class _Reading:
    """The lines of a file while configparser takes them one by one: it keeps none of the places of what it finds.

    ``places``: the line of each section and of each word in it. They are noted in the two hooks by which it asks what a
    header and what a word is: a second opinion of that would name the wrong line, or none. ``crowded``: the first line
    that has something behind its header, which configparser drops; 0: there is none.
    """

    def __init__(self, lines: list[str]) -> None:
        self._lines, self._number, self._section, self.crowded = lines, 0, "", 0
        self.places: Places = {}

    def __iter__(self) -> Iterator[str]:
        for number, line in enumerate(self._lines, 1):
            self._number = number
            yield f"{line}\n"

    def match(self, text: str) -> Optional[re.Match[str]]:
        """In place of configparser's pattern of headers, which is not the same in all releases of Python."""
        import re

        found = re.match(r"\[(?P<header>.+)\]", text)
        if found:
            self._section = found["header"]
            self.places.setdefault((self._section, ""), self._number)
            behind = text[found.end() :].strip()
            if behind and behind[0] not in "#;":
                self.crowded = self.crowded or self._number
        return found

    def word(self, text: str) -> str:
        """A word, as it is to be known."""
        name = _word(text)
        self.places.setdefault((self._section, name), self._number)
        return name


def _sections(path: str, lines: list[str]) -> tuple[dict[str, dict[str, str]], Places]:
    import configparser  # only where there is a file: the helper's start waits for it

    parser = configparser.RawConfigParser(
        delimiters=("=",), comment_prefixes=("#", ";"), inline_comment_prefixes=("#",), default_section="\0",
        empty_lines_in_values=False,
    )  # fmt: skip
    reading = _Reading(lines)
    parser.SECTCRE = reading  # type: ignore[assignment]
    parser.optionxform = reading.word  # type: ignore[method-assign, assignment]
    try:
        parser.read_file(reading, path)
    except configparser.Error as error:
        raise _wrong(path, _line_of(error), _text_of(error)) from None
    if reading.crowded:
        raise _wrong(path, reading.crowded, "there is something behind the section's name: give it a line of its own")
    return {x: dict(parser.items(x)) for x in parser.sections()}, reading.places


def _line_of(error: Exception) -> int:
    errors = getattr(error, "errors", None)
    line = errors[0][0] if errors else getattr(error, "lineno", None)
    return int(line or 0)


def _text_of(error: Exception) -> str:
    option, section = getattr(error, "option", None), getattr(error, "section", None)
    if option is not None:
        return f"{option!r} stands twice in [{section}]"
    if section is not None:
        return f"the section [{section}] stands twice"
    if hasattr(error, "line"):
        return f"this stands ahead of the first section: write [{ALL}] above it"
    return "this is neither [SECTION] nor WORD = VALUE"
