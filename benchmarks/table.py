"""The result as text."""

from __future__ import annotations

from typing import Any


def number(value: float) -> str:
    """A number with three significant digits."""
    if value == 0:
        return "0"
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def measured(row: dict[str, Any]) -> str:
    """The median and its quartiles."""
    unit = "x" if row["unit"] == "x" else f" {row['unit']}"
    return f"{number(row['value'])}{unit} ({number(row['low'])}..{number(row['high'])})"


def verdict(row: dict[str, Any]) -> str:
    """Whether the goal is met, as text."""
    return "" if row["met"] is None else "met" if row["met"] else "NOT MET"


def cells(row: dict[str, Any]) -> list[str]:
    """A line of the table."""
    figures = ", ".join(f"{name.rsplit(' ', 1)[0]} {number(x)} {name.rsplit(' ', 1)[1]}"
                        for name, x in row["figures"].items())
    more = "; ".join(x for x in (figures, row["note"]) if x)
    return [row["case"], row["what"], row["goal"] or "", measured(row), verdict(row), more]


def how(result: dict[str, Any]) -> str:
    """How the figures were measured, as text."""
    best = f", each the best of {result['best']} runs" if result["best"] > 1 else ""
    text = f"medians of {result['repeats']} turns{best}, with the quartiles; x: how many times faster ours is"
    return f"QUICK: too small to mean anything. {text}" if result["quick"] else text


def print_rows(result: dict[str, Any]) -> None:
    """Prints everything."""
    for name, fact in result["machine"].items():
        print(f"{name:9} {fact}")
    print(f"{'after':9} load {' '.join(result['load_after'])}")
    print(f"{'peer':9} libxenguest {result['libxenguest']}" if result["libxenguest"] == "4.17" else
          f"{'peer':9} left out: {result['libxenguest']}")
    print(how(result) + "\n")
    lines = [["case", "what", "goal", "measured", "", "medians"], *(cells(x) for x in result["rows"])]
    widths = [max(len(line[i]) for line in lines) for i in range(5)]
    for line in lines:
        print("  ".join(x.ljust(width) for x, width in zip(line, [*widths, 0])).rstrip())
    judged = [x for x in result["rows"] if x["met"] is not None]
    print(f"\n{sum(x['met'] for x in judged)} of {len(judged)} goals met")
