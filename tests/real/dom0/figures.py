"""figures.py GUEST TIMES OUT: live saves, `xl save` and `xl migrate`, ours and Xen's in turn.

What the guest itself sees, the longest time it stood, is in guest_gap_ms; seconds_paused
is from its suspend until it might go on: xc_domain_save returns, pyxcsr resumes it, the helper
sends `complete`. seconds_to_start, known of save helpers only, is until the helper sends its
first message; seconds_working is without loading the program: from the first message about pages
or the wish to suspend. seconds_cpu is the saver's own user and system time, without that of xl.
Ratios are ours to Xen's, run by run.
"""
import glob
import json
import os
import re
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

HERE = os.path.dirname(os.path.abspath(__file__))
STOCK = glob.glob("/usr/lib/xen-*/bin/libxl-save-helper")[0]
RECEIVE = "env -u LIBXL_SAVE_HELPER xl migrate-receive"
FIGURES = ("passes", "pages", "bytes", "seconds", "seconds_to_start", "seconds_working", "seconds_paused",
           "seconds_cpu", "pages_per_second", "guest_gap_ms")
RATIOS = ("seconds", "seconds_working", "seconds_paused", "seconds_cpu", "guest_gap_ms")
guest = sys.argv[1]


def run(*command, **env):
    """Runs a command; returns its output and the seconds it took, exits where it fails."""
    started = time.monotonic()
    done = subprocess.run(command, env=dict(os.environ, **env), capture_output=True, text=True, check=False)
    seconds = time.monotonic() - started
    if done.returncode:
        sys.exit(f"figures: {' '.join(command)}: status {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout, done.stderr, seconds


def cpu():
    """Seconds of processor time that children have taken so far."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


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
    """Bytes and pages of a raw stream, which is then removed."""
    sums = json.loads(run("python3", f"{HERE}/streams.py", "count", raw)[0])
    os.unlink(raw)
    return sums


def counted_unless_null(path):
    return counted(path) if path != "/dev/null" else {}


def save_stock(path):
    began = cpu()
    said = run("xcpeer", "save", domid(), path, "live", "resume")[1]
    used = cpu() - began
    seconds, paused = map(float, re.search(r"in ([\d.]+) s, paused part ([\d.]+) s", said).groups())
    return {"passes": 1 + len(re.findall(r"dirty [1-9]", said)), "seconds": seconds, "seconds_working": seconds,
            "seconds_paused": paused, "seconds_cpu": used, **counted_unless_null(path)}


def save_ours(path):
    began = cpu()
    report = json.loads(run("pyxcsr", "save", "--live", guest, path, "--force", "--json")[0])
    used = cpu() - began
    return {"passes": len(report["passes"]), "seconds": report["seconds"], "seconds_working": report["seconds"],
            "seconds_paused": report["seconds_paused"], "seconds_cpu": used, **counted_unless_null(path)}


def spied(helper, *command):
    """An xl command with the helper watched by spy.py; what that saw."""
    env = {"LIBXL_SAVE_HELPER": f"{HERE}/spy.py", "SPY_HELPER": helper, "SPY_OUT": "/tmp/spy.json"}
    seconds = run(*command, **env)[2]
    with open("/tmp/spy.json") as f:
        seen = json.load(f)
    os.unlink("/tmp/spy.json")
    return {"passes": seen["passes"], "bytes": seen["bytes"], "pages": seen["bytes"] // 4104,
            "seconds": seen["seconds"], "seconds_paused": seen["paused"], "seconds_to_start": seen["to_start"],
            "seconds_working": seen["working"], "seconds_cpu": seen["cpu"],
            "seconds_to_exit": seen["to_exit"],
            "seconds_xl": seconds}


def xl_save(helper):
    row = spied(helper, "xl", "save", guest, "/tmp/f.xl")
    run("xl", "restore", "/tmp/f.xl")
    os.unlink("/tmp/f.xl")
    return row


def xl_migrate(helper):
    return spied(helper, "xl", "migrate", "-s", "", guest, RECEIVE)


WAYS = [("to /dev/null", "libxc", lambda: save_stock("/dev/null")),
        ("to /dev/null", "pyxcsr", lambda: save_ours("/dev/null")),
        ("live save", "libxc", lambda: save_stock("/tmp/f.raw")),
        ("live save", "pyxcsr", lambda: save_ours("/tmp/f.raw")),
        ("xl save", "stock helper", lambda: xl_save(STOCK)),
        ("xl save", "pyxcsr helper", lambda: xl_save(os.environ["HELPER"])),
        ("xl migrate", "stock helper", lambda: xl_migrate(STOCK)),
        ("xl migrate", "pyxcsr helper", lambda: xl_migrate(os.environ["HELPER"]))]


def median(rows, figure):
    """Of the runs that have the figure; None if none does."""
    values = [row[figure] for row in rows if figure in row]
    return round(statistics.median(values), 4) if values else None


def of(rows, what, by):
    return [row for row in rows if (row["what"], row["by"]) == (what, by)]


def ratios(rows):
    """Of each kind of save, the medians of ours to Xen's, each pair taken in the same turn."""
    table = []
    for (what, theirs, _), (_, ours, _) in zip(WAYS[::2], WAYS[1::2]):
        pairs = list(zip(of(rows, what, ours), of(rows, what, theirs)))
        figures = {f: statistics.median(a[f] / b[f] for a, b in pairs if b[f]) for f in RATIOS}
        table.append({"what": what, **{f: round(x, 3) for f, x in figures.items()}})
    return table


def turn(number):
    """A row of each way."""
    rows = []
    for what, by, measure in WAYS:
        since = max(beats())
        row = {"what": what, "by": by, "run": number, **measure()}
        if "pages" in row:
            row["pages_per_second"] = round(row["pages"] / row["seconds"])
        row["guest_gap_ms"] = gap(since)
        rows.append({k: round(v, 4) if isinstance(v, float) else v for k, v in row.items()})
    return rows


def show(table, figures, width):
    print(" " * width + "".join(f"{f:>17}" for f in figures))
    for row in table:
        shown = ["-" if row[f] is None else row[f] for f in figures]
        print(f"{row['what'] + ' ' + row.get('by', ''):{width}}" + "".join(f"{value:>17}" for value in shown))


def main():
    rows = [row for number in range(int(sys.argv[2])) for row in turn(number)]
    table = []
    for what, by, _ in WAYS:
        table.append({"what": what, "by": by, **{f: median(of(rows, what, by), f) for f in FIGURES}})
    release = run("xl", "info", "xen_version")[0].strip()
    compared = ratios(rows)
    with open(sys.argv[3], "w") as f:
        json.dump({"xen": release, "guest": guest, "medians": table, "ratios": compared, "runs": rows}, f, indent=1)
    print(f"Xen {release}, guest {guest}, medians of {sys.argv[2]}")
    show(table, FIGURES, 28)
    print("ours to Xen's, medians of the ratios")
    show(compared, RATIOS, 28)


main()
