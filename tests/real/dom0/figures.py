"""figures.py GUEST TIMES OUT: live saves, `xl save` and `xl migrate`, ours and Xen's in turn.

What the guest itself sees, the longest time it stood, is in guest_gap_ms; seconds_paused
is from its suspend to the end of the image; seconds_to_start, known of save helpers only,
until the helper sends its first message: how long the program takes to load.
"""
import glob
import json
import os
import re
import statistics
import subprocess
import sys
import time
from pathlib import Path

HERE = os.path.dirname(os.path.abspath(__file__))
STOCK = glob.glob("/usr/lib/xen-*/bin/libxl-save-helper")[0]
RECEIVE = "env -u LIBXL_SAVE_HELPER xl migrate-receive"
FIGURES = ("passes", "pages", "octets", "seconds", "seconds_to_start", "seconds_paused", "pages_per_second",
           "guest_gap_ms")
guest = sys.argv[1]


def run(*command, **env):
    """Runs a command; returns its output and the seconds it took, exits where it fails."""
    started = time.monotonic()
    done = subprocess.run(command, env=dict(os.environ, **env), capture_output=True, text=True, check=False)
    seconds = time.monotonic() - started
    if done.returncode:
        sys.exit(f"figures: {' '.join(command)}: status {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout, done.stderr, seconds


def beats():
    """The guest's heartbeats so far, as {n: gap}."""
    text = b"".join(log.read_bytes() for log in Path("/var/log/xen/console").glob(f"guest-{guest}*.log"))
    return {int(n): int(gap) for n, gap in re.findall(rb"PULSE n=(\d+) .*?gap=(\d+) bad=", text)}


def gap(since):
    """The longest time that the guest stood in the beats after `since`, up to the third one from now."""
    until = max(beats()) + 3
    for _ in range(480):
        seen = beats()
        if max(seen) >= until:
            return max(g for n, g in seen.items() if n > since)
        time.sleep(0.25)
    sys.exit("figures: no heartbeat")


def domid():
    return run("xl", "domid", guest)[0].strip()


def counted(raw):
    """Octets and pages of a raw stream, which is then removed."""
    sums = json.loads(run("python3", f"{HERE}/streams.py", "count", raw)[0])
    os.unlink(raw)
    return sums


def save_stock():
    said = run("xcpeer", "save", domid(), "/tmp/f.raw", "live", "resume")[1]
    seconds, paused = map(float, re.search(r"in ([\d.]+) s, paused part ([\d.]+) s", said).groups())
    return {"passes": 1 + len(re.findall(r"dirty [1-9]", said)), "seconds": seconds,
            "seconds_paused": paused, **counted("/tmp/f.raw")}


def save_ours():
    report = json.loads(run("pyxcsr", "save", "--live", guest, "/tmp/f.raw", "--json")[0])
    return {"passes": len(report["passes"]), "seconds": report["seconds"],
            "seconds_paused": report["seconds_paused"], **counted("/tmp/f.raw")}


def spied(helper, *command):
    """An xl command with the helper watched by spy.py; what that saw."""
    env = {"LIBXL_SAVE_HELPER": f"{HERE}/spy.py", "SPY_HELPER": helper, "SPY_OUT": "/tmp/spy.json"}
    seconds = run(*command, **env)[2]
    with open("/tmp/spy.json") as f:
        seen = json.load(f)
    os.unlink("/tmp/spy.json")
    return {"passes": seen["passes"], "octets": seen["octets"], "pages": seen["octets"] // 4104,
            "seconds": seen["seconds"], "seconds_paused": seen["paused"], "seconds_to_start": seen["to_start"],
            "seconds_xl": seconds}


def xl_save(helper):
    row = spied(helper, "xl", "save", guest, "/tmp/f.xl")
    run("xl", "restore", "/tmp/f.xl")
    os.unlink("/tmp/f.xl")
    return row


def xl_migrate(helper):
    return spied(helper, "xl", "migrate", "-s", "", guest, RECEIVE)


WAYS = [("live save", "libxc", save_stock), ("live save", "pyxcsr", save_ours),
        ("xl save", "stock helper", lambda: xl_save(STOCK)),
        ("xl save", "pyxcsr helper", lambda: xl_save(os.environ["HELPER"])),
        ("xl migrate", "stock helper", lambda: xl_migrate(STOCK)),
        ("xl migrate", "pyxcsr helper", lambda: xl_migrate(os.environ["HELPER"]))]


def median(rows, figure):
    """Of the runs that have the figure; None if none does."""
    values = [row[figure] for row in rows if figure in row]
    return round(statistics.median(values), 4) if values else None


def main():
    rows = []
    for n in range(int(sys.argv[2])):
        for what, by, measure in WAYS:
            since = max(beats())
            row = {"what": what, "by": by, "run": n, **measure()}
            row["pages_per_second"] = round(row["pages"] / row["seconds"])
            row["guest_gap_ms"] = gap(since)
            rows.append({k: round(v, 4) if isinstance(v, float) else v for k, v in row.items()})
    table = []
    for what, by, _ in WAYS:
        runs = [row for row in rows if (row["what"], row["by"]) == (what, by)]
        table.append({"what": what, "by": by, **{f: median(runs, f) for f in FIGURES}})
    release = run("xl", "info", "xen_version")[0].strip()
    with open(sys.argv[3], "w") as f:
        json.dump({"xen": release, "guest": guest, "medians": table, "runs": rows}, f, indent=1)
    print(f"Xen {release}, guest {guest}, medians of {sys.argv[2]}")
    print(f"{'':12}{'':15}" + "".join(f"{f:>18}" for f in FIGURES))
    for row in table:
        shown = ["-" if row[f] is None else row[f] for f in FIGURES]
        print(f"{row['what']:12}{row['by']:15}" + "".join(f"{value:>18}" for value in shown))


main()
