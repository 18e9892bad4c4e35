"""`pyxcsr watch` on a terminal that gets another size: nothing of the old picture is left."""

from __future__ import annotations

import re
from typing import Any

import pytest

from pyxcsr.cli import figures, say, watch

KINDS = ("wraps anew", "cuts off", "neither")


class Screen:
    """A terminal, as far as the table uses one. On another width it does with its lines what ``kind`` says."""

    def __init__(self, kind: str, columns: int, rows: int) -> None:
        self.kind, self.columns, self.rows = kind, columns, rows
        self.cells, self.at = [""], 0

    def resize(self, columns: int, rows: int) -> None:
        self.columns, self.rows = columns, rows
        if self.kind == "wraps anew":
            parts = [self._wrapped(x) for x in self.cells]
            self.at = sum(len(x) for x in parts[: self.at])
            self.cells = [y for x in parts for y in x]
        elif self.kind == "cuts off":
            self.cells = [x[:columns] for x in self.cells]

    def _wrapped(self, line: str) -> list[str]:
        return [line[i : i + self.columns] for i in range(0, len(line), self.columns)] or [""]

    @property
    def top(self) -> int:
        """Of all lines, the first that is on the screen."""
        return max(len(self.cells) - self.rows, 0)

    @property
    def shown(self) -> list[str]:
        return [x.rstrip() for x in self.cells[self.top :] if x.strip()]

    def write(self, text: str) -> None:
        for part in re.findall(r"\x1b\[\d*[A-Za-z]|\n|[^\x1b\n]+", text):
            if part == "\n":
                self._down()
            elif part[0] != "\x1b":
                pieces = self._wrapped(part)
                for i, piece in enumerate(pieces):
                    self.cells[self.at] = piece
                    if i + 1 < len(pieces):
                        self._down()
            else:
                self._obey(part[2:-1], part[-1])

    def _down(self) -> None:
        self.at += 1
        if self.at == len(self.cells):
            self.cells.append("")

    def _obey(self, number: str, what: str) -> None:
        if what == "F":
            self.at = max(self.at - int(number), self.top)
        elif what == "H":
            self.at = self.top
        elif (what, number) == ("J", "2"):
            self.cells[self.top :] = [""] * self.rows
        elif (what, number) == ("J", ""):
            self.cells[self.at :] = [""] * (len(self.cells) - self.at)
        else:
            raise AssertionError(f"the terminal is told {what!r}, which the test does not know")


class Scene:
    """A table on such a screen. ``saves``: the rows to be drawn."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, kind: str, columns: int, rows: int) -> None:
        self.screen = Screen(kind, columns, rows)
        self.saves: list[str] = []
        monkeypatch.setattr(watch, "_room", lambda: (self.screen.columns, self.screen.rows))
        monkeypatch.setattr(watch, "_rows", lambda _watching: list(self.saves))
        monkeypatch.setattr(watch, "_flush", lambda: None)
        monkeypatch.setattr(watch, "REDRAWN", 0.0)
        monkeypatch.setattr(say, "report", lambda text: self.screen.write(text + "\n"))
        monkeypatch.setattr(figures, "ending", lambda state: state)
        self.table: Any = watch.AsTable()

    def draw(self, *saves: str) -> list[str]:
        self.saves = list(saves)
        self.table.draw(None)
        return self.screen.shown

    def over(self, text: str) -> None:
        class One:
            state = text

        self.table.over(One())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [(40, 24), (30, 24), (120, 24), (80, 6), (40, 6), (20, 4)])
def test_nothing_of_the_old_picture_is_left(
    size: tuple[int, int], kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = Scene(monkeypatch, kind, 80, 24)
    assert scene.draw("head" + "-" * 70, "one" + "." * 70, "two" + "." * 70) == scene.saves
    scene.screen.resize(*size)
    for turn in range(3):
        saves = (f"head {turn} " + "-" * 100, f"one {turn} " + "." * 100, f"two {turn} " + "." * 100)
        assert scene.draw(*saves) == [x[: size[0] - 1] for x in saves]


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_said_stays_as_far_as_there_is_room(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    scene = Scene(monkeypatch, kind, 80, 24)
    scene.draw("head", "one", "two")
    for i in range(8):
        scene.over(f"save {i} is done " + "x" * 40)
    scene.draw("head", "one")
    assert scene.screen.shown[-3:] == [f"save 7 is done {'x' * 40}", "head", "one"]
    scene.screen.resize(40, 8)
    said = [f"save {i} is done {'x' * 40}" for i in (6, 7)]
    wrapped = [y for x in said for y in (x[:40], x[40:])]
    for _ in range(2):
        assert scene.draw("head", "one") == [*wrapped, "head", "one"]
    scene.over("save 8 is done")
    assert scene.draw("head")[-2:] == ["save 8 is done", "head"]


@pytest.mark.parametrize("kind", KINDS)
def test_the_end_of_a_save_on_another_size(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is said once, whether the table or the end of a save comes first after the change."""
    scene = Scene(monkeypatch, kind, 80, 24)
    scene.draw("head" + "-" * 70, "one" + "." * 70)
    scene.screen.resize(40, 24)
    scene.over("one is done")
    assert scene.draw("nothing is being saved") == ["one is done", "nothing is being saved"]
