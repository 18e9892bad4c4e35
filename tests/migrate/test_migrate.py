"""`pyxcsr migrate` between two ends that are played: what is run, what is checked, where the guest is said to be."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import shlex
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from migrate.lab import DOM0, Ends
from pyxcsr.cli import sending
from pyxcsr.errors import ProbeError
from pyxcsr.limits.given import from_environment
from pyxcsr.limits.limits import Limits
from pyxcsr.migrate import home, probe, route, verdict

LAB = ("PYXCSR_BACKEND", "PYXCSR_CONFIG", "PYXCSR_RUN_DIR")
"""Variables that the lab sets."""


def at_home(ends: Ends) -> bool:
    """The guest runs here, and nothing of it is at the other end."""
    return ends.names("here") == {ends.guest: "-b----"} and ends.names("there") == {}


@pytest.mark.parametrize("name", ["two words", "it's \"quoted\"", "-rf", "$(reboot);`x`", "7", "späß"])
def test_a_guest_of_any_name_arrives(tmp_path: Path, name: str) -> None:
    ends = Ends(tmp_path, name)
    if name == "7":
        ends.guest = "5"  # a number is an id, to xl as well
    done = ends.migrate()
    assert done.returncode == 0, done.stderr
    assert ends.names("here") == {} and ends.names("there") == {name: "-b----"}
    assert done.stdout.startswith(f"{name}: it runs there (id 1)")
    assert (tmp_path / "sent").read_text() == (tmp_path / "received").read_text()


def test_what_is_run(ends: Ends) -> None:
    config = ends.folder / "x y.cfg"
    config.touch()
    done = ends.migrate("--ssh", "ssh -p 2222 -o 'User=a b'", "--config", str(config), "--max-downtime", "300ms",
                        "--bandwidth", "none", "--abort-if-busy", "--p2m-changes", "abort")  # fmt: skip
    assert done.returncode == 0, done.stderr
    receive = f"env LIBXL_SAVE_HELPER={ends.helper} {ends.bin / 'xl'} migrate-receive"
    rune = shlex.join(["ssh", "-p", "2222", "-o", "User=a b", "other", receive])
    assert ends.read("migrate") == ["migrate", "-s", "", "-C", str(config), "--", "5", rune]
    set_ = {x: y for x, y in ends.read("environ").items() if x not in LAB}
    assert set_ == {
        "PYXCSR_MAX_DOWNTIME": "300ms", "PYXCSR_BANDWIDTH": "none", "PYXCSR_BANDWIDTH_WHILE_PAUSED": "none",
        "PYXCSR_ABORT_IF_BUSY": "yes", "PYXCSR_P2M_CHANGES": "abort",
    }  # fmt: skip
    asked = (ends.folder / "ssh").read_text().splitlines()
    assert asked[0].startswith("-p 2222 -o User=a b other sh -s all")


@pytest.mark.parametrize("about", [("TIMEOUT", "9m", "ON_TIMEOUT", "suspend"),
                                   ("BANDWIDTH", "1G", "BANDWIDTH_WHILE_PAUSED", "yes")])  # fmt: skip
def test_what_an_option_lifts_takes_with_it_what_is_said_about_it(ends: Ends, about: tuple[str, ...]) -> None:
    """To the helper both are variables: the second would contradict the first there."""
    one, value, other, more = about
    before = {f"PYXCSR_{one}": value, f"PYXCSR_{other}": more}
    done = ends.migrate(f"--{one.lower()}", "none", **before)
    assert done.returncode == 0, done.stderr
    assert repr(from_environment(ends.read("environ")).limits()) == repr(Limits())


def test_a_configuration_that_xl_would_refuse_to_read(ends: Ends) -> None:
    """It reads it here, once all has been checked, and before it starts ssh."""
    fifo = ends.folder / "fifo"
    os.mkfifo(fifo)
    for path, said in (("/nowhere/x.cfg", "No such file"), (ends.folder, "not a plain file"), (fifo, "not a plain")):
        done = ends.migrate("--config", str(path))
        assert done.returncode == 2 and f"--config '{path}' cannot be read: " in done.stderr and said in done.stderr
    assert ends.untouched and not (ends.folder / "ssh").exists()


def test_limits_that_xens_own_helper_would_not_keep(ends: Ends) -> None:
    done = ends.migrate("--max-downtime", "300ms", PYXCSR_SAVE="stock")
    assert done.returncode == 2 and "PYXCSR_SAVE=stock" in done.stderr and ends.untouched


def test_what_is_printed_can_be_run(ends: Ends) -> None:
    printed = ends.migrate("--dry-run", "--max-downtime", "300ms").stdout
    assert ends.untouched
    assert subprocess.run(printed, shell=True, env=ends.environ(), capture_output=True, check=False).returncode == 0
    assert ends.names("there") == {"pulse": "-b----"} and ends.read("environ")["PYXCSR_MAX_DOWNTIME"] == "300ms"


def test_a_dry_run_without_checks_asks_nobody(ends: Ends) -> None:
    ends.guest = "it's; reboot"
    done = ends.migrate("--dry-run", "--no-checks", "--compress", "zstd:-3", play="no-list-here")
    words = shlex.split(done.stdout)
    assert words[1] == f"LIBXL_SAVE_HELPER={ends.helper}" and words[-2] == "it's; reboot"
    pack, _, rest = words[-1].partition(" | ")
    assert shlex.split(pack) == [str(ends.relay), "pack", "-3"]
    assert shlex.split(rest) == [
        "ssh", "other", "/usr/local/bin/pyxcsr-relay unpack | env "
        "LIBXL_SAVE_HELPER=/usr/local/bin/pyxcsr-save-helper xl migrate-receive",
    ]  # fmt: skip
    assert not (ends.folder / "ssh").exists()


@pytest.mark.parametrize(
    ("words", "more", "said"),
    [
        (["--on-timeout", "suspend"], {}, "there is no timeout"),
        (["--policy", "libxc", "--throttle"], {}, "policy libxc"),
        (["--policy", "libxc"], {"PYXCSR_MAX_DOWNTIME": "1s"}, "PYXCSR_MAX_DOWNTIME"),
        (["--timeout", "2s"], {}, "x.conf, line 4"),
        (["--target-dirty", "9", "--policy", "libxc"], {}, "x.conf, line 4"),
    ],
)
def test_a_dry_run_without_checks_refuses_contradictions(
    ends: Ends, words: list[str], more: dict[str, str], said: str
) -> None:
    """With options, variables and the file together, as far as the guest is known: xl's helper would refuse them."""
    (ends.folder / "x.conf").write_text("[guests]\nbandwidth = 1G\n[guest pulse]\nmax_downtime = 5s\n")
    config = {"PYXCSR_CONFIG": str(ends.folder / "x.conf")} if "x.conf" in said else {}
    done = ends.migrate("--dry-run", "--no-checks", *words, **more, **config)
    assert done.returncode == 2 and said in done.stderr and done.stdout == ""
    if config:  # nobody knows whose number that is
        ends.guest = "5"
        assert ends.migrate("--dry-run", "--no-checks", *words, **config).returncode == 0


def test_a_misspelt_variable_is_told_of(ends: Ends) -> None:
    done = ends.migrate("--dry-run", PYXCSR_MAXDOWNTIME="1ms")
    assert done.returncode == 0 and "PYXCSR_MAXDOWNTIME is no setting of pyxcsr's" in done.stderr


def test_to_this_machine_itself_without_ssh(ends: Ends) -> None:
    done = ends.migrate("--ssh", "", "--receiver-helper", "stock", host="localhost")
    assert done.returncode == 0, done.stderr
    assert ends.names("here") == {"pulse": "-b----"}
    assert ends.read("migrate")[-1] == f"env -u LIBXL_SAVE_HELPER {ends.bin / 'xl'} migrate-receive"
    assert not (ends.folder / "ssh").exists() and "id 6" in done.stdout


def test_a_host_that_is_none(ends: Ends) -> None:
    done = ends.migrate(host="-oProxyCommand=reboot")
    assert done.returncode == 2 and "is not the name or address of a host" in done.stderr
    assert ends.untouched and not (ends.folder / "ssh").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--ssh", ""], "to localhost only"),
        (["--ssh", "ssh 'x"], "--ssh is"),
        (["--compress", "gzip"], "--compress is 'gzip'"),
        (["--compress", "zstd:0"], "--compress is 'zstd:0'"),
        (["--compress", "zstd:99"], "--compress is 'zstd:99'"),
        (["--compress", "zstd", "--receiver-helper", "stock"], "pyxcsr at both ends"),
        (["--receiver-helper", "bin/helper"], "give an absolute path"),
        (["--max-downtime", "fast"], "--max-downtime is 'fast'"),
        (["--max-downtime", "10s", "--timeout", "1s"], "(max_downtime: --max-downtime; timeout: --timeout)"),
    ],
)
def test_what_makes_no_sense(ends: Ends, words: list[str], said: str) -> None:
    done = ends.migrate(*words)
    assert done.returncode == 2 and said in done.stderr
    assert ends.untouched


# -- what is checked first


def test_all_that_is_wrong_is_said_at_once(ends: Ends) -> None:
    ends.info("there", free_memory="100", xen_minor="16", xen_caps="hvm-3.0-x86_64", xen_commandline="dom0_mem=1G")
    ends.domains("there", DOM0, ("pulse", 3, 128, 1, "------"), ("pulse--incoming", 4, 128, 1, "--p---"))
    ends.node("/local/domain/5/control/feature-suspend", "")
    done = ends.migrate("--receiver-helper", "/nowhere/helper")
    assert done.returncode == 2
    for said in (
        "other: there is no pyxcsr-save-helper: install pyxcsr, say where it is with --receiver-helper PATH, or leave",
        "other: there is a domain 'pulse' already (id 3, running)",
        "other: there is a domain 'pulse--incoming' already (id 4, paused)",
        "other: the guest needs 131 MiB, and 100 MiB are free; dom0 there does not give any",
        "other: Xen is older there (4.16) than here (4.17)",
        "other: Xen there runs no guests of type pv",
        "Nothing was done",
    ):
        assert said in done.stderr
    assert json.loads((ends.folder / "here.json").read_text())[1][0] == "pulse"
    assert not (ends.folder / "migrate").exists()


@pytest.mark.parametrize(
    ("state", "said"),
    [("--p---", "paused: `xl unpause`"), ("---ss-", "suspended: `pyxcsr recover`"), ("---sc-", "is crashed"),
     ("---s-d", "is dying"), ("---s--", "is shut down")],
)  # fmt: skip
def test_a_guest_that_does_not_run(ends: Ends, state: str, said: str) -> None:
    ends.domains("here", DOM0, ("pulse", 5, 128, 1, state))
    done = ends.migrate()
    assert done.returncode == 2 and said in done.stderr and not (ends.folder / "migrate").exists()


def test_who_cannot_go(ends: Ends) -> None:
    for guest, said in (("nobody", "here: there is no domain 'nobody'"), ("77", "no domain '77'"), ("0", "domain 0"),
                       ("9" * 5000, "no domain '999")):  # fmt: skip
        ends.guest = guest
        done = ends.migrate()
        assert done.returncode == 2 and said in done.stderr and not (ends.folder / "migrate").exists()


def test_a_guest_that_does_not_say_that_it_can_suspend(ends: Ends) -> None:
    """Linux says so when it boots: one that was migrated before does not."""
    ends.node("/local/domain/5/control/feature-suspend", "")
    done = ends.migrate("--dry-run")
    assert done.returncode == 0 and "here: the guest 'pulse' does not announce that it can suspend" in done.stderr
    ends.node("/local/domain/5/control/shutdown", "poweroff")
    done = ends.migrate("--dry-run")
    assert done.returncode == 2 and "has been asked to 'poweroff' and has not answered yet" in done.stderr


def test_an_hvm_guest_need_not_announce_anything(ends: Ends) -> None:
    ends.node("/libxl/5/type", "hvm")
    ends.node("/local/domain/5/control/feature-suspend", "")
    done = ends.migrate("--dry-run")
    assert done.returncode == 0 and "announce" not in done.stderr


def test_no_shadow_paging(ends: Ends) -> None:
    ends.info("here", virt_caps="pv hvm hap")
    assert "no shadow paging" in ends.migrate().stderr and ends.untouched
    ends.node("/libxl/5/type", "pvh")
    assert ends.migrate("--dry-run").returncode == 0


def test_memory_that_dom0_has(ends: Ends) -> None:
    ends.info("there", free_memory="100")
    done = ends.migrate("--dry-run")
    assert done.returncode == 0 and "xl has to take the rest from dom0, which has 1000 MiB" in done.stderr
    ends.domains("there", ("Domain-0", 0, 20, 2, "r-----"))
    assert "what dom0 has does not suffice" in ends.migrate("--dry-run").stderr


def test_differences_are_warnings(ends: Ends) -> None:
    ends.info("there", hw_caps="0:0", xen_minor="20")
    done = ends.migrate("--dry-run")
    assert done.returncode == 0
    assert "Xen's releases differ: 4.17 here, 4.20 at other" in done.stderr and "processors' features" in done.stderr


def test_pyxcsr_that_does_not_work_there(ends: Ends) -> None:
    other = ends.folder / "other"
    other.mkdir()
    for name, script in (("pyxcsr-save-helper", ":"), ("pyxcsr-relay", "echo version 1; echo 'xen \033[2Jno Xen'")):
        ends.program(name, script).rename(other / name)
    ends.program("pyxcsr-save-helper", ":")
    ends.program("pyxcsr-relay", "echo xen ok")
    done = ends.migrate("--receiver-helper", str(other / "pyxcsr-save-helper"))
    assert done.returncode == 2 and "other: pyxcsr does not work: \N{REPLACEMENT CHARACTER}[2Jno Xen" in done.stderr
    assert ends.untouched


def test_pyxcsr_that_works_there(ends: Ends) -> None:
    done = ends.migrate("--dry-run", FACTS="real")
    assert done.returncode == 0 and done.stderr == ""
    done = ends.migrate("--dry-run", FACTS="real", PYXCSR_BACKEND="")
    assert done.returncode == 2 and "pyxcsr does not work: " in done.stderr


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("echo 'ssh: connect to host other: No route' >&2; exit 255", "ended with status 255: ssh: connect to host"),
        ("echo Welcome!", "it answers 'Welcome!'"),
        ("yes", "or one without end"),
        ("echo pyxcsr-facts 1; echo end", "there is no xl"),
    ],
)
def test_answers_that_are_none(ends: Ends, script: str, said: str) -> None:
    ends.program("ssh", script)
    done = ends.migrate()
    assert done.returncode == 2 and said in done.stderr and "other:" in done.stderr, done.stderr
    assert ends.untouched and "\033" not in done.stderr


def test_without_checks(ends: Ends) -> None:
    ends.node("/local/domain/5/control/feature-suspend", "")
    done = ends.migrate("--no-checks", "--receiver-helper", str(ends.helper))
    assert done.returncode == 0 and "it is not known whether the guest can go" in done.stderr


def test_without_checks_and_without_a_relay(ends: Ends) -> None:
    ends.relay.unlink()
    done = ends.migrate("--no-checks", "--compress", "zstd")
    assert done.returncode == 2 and "here: --compress needs pyxcsr-relay beside" in done.stderr and ends.untouched


# -- what goes wrong


@pytest.mark.parametrize(
    ("play", "status", "said"),
    [
        ("save-fails", 1, "this side failed"),
        ("no-config", 1, "this side failed"),
        ("refused", 4, "other failed, or the connection to it"),
        ("noise", 4, "other failed, or the connection to it"),
        ("receive-fails", 4, "other failed, or the connection to it"),
        ("startup-fails", 4, "other failed, or the connection to it"),
    ],
)
def test_failures_leave_the_guest_here(ends: Ends, play: str, status: int, said: str) -> None:
    done = ends.migrate("--json", play=play, FAKE_BYTES="5000000")
    assert done.returncode == status, done.stderr
    assert f"pulse was not migrated: {said} (xl ended with status 1); it runs here (id 5)" in done.stderr
    assert at_home(ends)
    facts = json.loads(done.stdout)["error"]["facts"]
    assert (facts["where"], facts["domid"]) == ("here", 5)
    assert facts["side"] == ("sender" if status == 1 else "receiver")


def test_an_xl_that_does_not_come_to_begin(ends: Ends) -> None:
    """All that was printed is its own then, and says why, in words that nothing else tells for an error."""
    done = ends.migrate("--quiet", play="no-config")
    assert done.returncode == 1 and "unable to retrieve domain configuration" in done.stderr and at_home(ends)


def test_a_helper_that_is_missing_there(ends: Ends) -> None:
    done = ends.migrate("--receiver-helper", "/nowhere/pyxcsr-save-helper", host="localhost")
    assert done.returncode == 2 and "here: there is no pyxcsr-save-helper" in done.stderr and ends.untouched
    done = ends.migrate("--no-checks", "--receiver-helper", "/nowhere/pyxcsr-save-helper", FAKE_BYTES="5000000")
    assert done.returncode == 4 and at_home(ends)


def test_an_end_that_dies_with_the_guest(ends: Ends) -> None:
    done = ends.migrate(play="dies-at-the-end")
    assert done.returncode == 5
    assert "here it is suspended, as 'pulse--migratedaway'; the other end does not have it: look at both" in done.stderr
    assert "pyxcsr recover --resume 5" in done.stderr


def test_the_other_end_cannot_be_asked_afterwards(ends: Ends) -> None:
    done = ends.migrate("--no-checks", "--receiver-helper", str(ends.helper), play="no-list-there save-fails")
    assert done.returncode == 1
    assert "it runs here (id 5); the other end could not be asked (other: xl lists no domains" in done.stderr
    done = ends.migrate("--no-checks", "--receiver-helper", str(ends.helper), play="no-list-there")
    assert done.returncode == 5
    assert "xl says that pulse was migrated to other, but: it is gone here; the other end could not be" in done.stderr


def test_what_is_told(ends: Ends) -> None:
    plain = ends.migrate(FAKE_BYTES="5000000")
    assert "live pass" not in plain.stderr and "3 passes" in plain.stderr
    ends.domains("here", DOM0, ("pulse", 5, 128, 1, "-b----"))
    ends.domains("there", DOM0)
    shown = ends.migrate("--progress", "--json", FAKE_BYTES="5000000")
    assert "pyxcsr: live pass 0: 65536/5000000" in shown.stderr
    report = json.loads(shown.stdout)
    assert (report["ok"], report["where"], report["domid"], report["compression"]) == (True, "there", 1, None)
    ends.domains("here", DOM0, ("pulse", 5, 128, 1, "-b----"))
    ends.domains("there", DOM0)
    quiet = ends.migrate("--quiet", play="save-fails")
    assert "longer than its timeout" in quiet.stderr and "Saving to" not in quiet.stderr and quiet.stdout == ""


def test_progress_is_the_saves_own(ends: Ends) -> None:
    """Where the save has a socket, xl's text of how far it is is not shown beside it."""
    run_dir = ends.folder / "run"
    run_dir.mkdir(mode=0o700)
    play = "socket throttled slow"
    done = ends.migrate("--progress", play=play, FAKE_BYTES="4000000", PYXCSR_RUN_DIR=str(run_dir))
    assert done.returncode == 0 and "pass 3 (guest throttled 25%):" in on_a_terminal(ends, run_dir, play)
    assert done.stderr.count("live pass 0") < 4, "until the socket was found"


def on_a_terminal(ends: Ends, run_dir: Path, play: str) -> str:
    """What a terminal gets of it."""
    for name in os.listdir(run_dir):
        (run_dir / name).unlink()
    ends.domains("here", DOM0, ("pulse", 5, 128, 1, "-b----"))
    ends.domains("there", DOM0)
    ours, theirs = pty.openpty()
    environ = ends.environ(play, FAKE_BYTES="4000000", PYXCSR_RUN_DIR=str(run_dir))
    with subprocess.Popen(
        ends.words(), env=environ, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True
    ) as run:
        os.close(theirs)
        heard = b""
        with contextlib.suppress(OSError):  # EIO: nobody has the other end open any more
            while data := os.read(ours, 4096):
                heard += data
        os.close(ours)
        assert run.wait(60) == 0, heard
    return heard.decode()


@pytest.mark.parametrize(
    "event",
    [
        {}, {"phase": 3}, {"phase": "pa\x1b[2Jss"}, {"phase": "pass", "iteration": "x"},
        {"phase": "pass", "iteration": True, "pages_done": 0, "pages_total": 0, "bytes_written": 0, "dirty_count": 0},
    ],
)  # fmt: skip
def test_events_that_cannot_be_shown(event: dict[str, Any]) -> None:
    assert sending.progress_of(event) is None


def test_another_guest_of_that_name_is_there(ends: Ends) -> None:
    """Without the checks xl finds out. That guest is neither this one's copy nor to be destroyed."""
    ends.domains("there", DOM0, ("pulse", 9, 256, 1, "-b----"))
    done = ends.migrate("--no-checks", "--receiver-helper", str(ends.helper), play="receive-fails")
    assert done.returncode == 4 and "it runs here (id 5)" in done.stderr and "destroy" not in done.stderr, done.stderr
    assert "pulse" in ends.names("there")


def test_a_dead_end_is_waited_for_with_a_word_and_not_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "SLOW", 0.2)
    monkeypatch.setattr(verdict, "PATIENCE", (1.0, 0.5))
    monkeypatch.setattr(verdict, "ASKED_AGAIN", 0.0)
    told: list[str] = []
    way, began = route.Route("dead", ["sh", "-c", "sleep 30", "sh"]), time.monotonic()
    found, why = verdict.look(lambda seconds: probe.domains_of(way, seconds, told.append))
    assert found is None and "dead: no answer within" in why and time.monotonic() - began < 8
    assert told == [
        "dead has been asked for its domains and does not answer yet: it has 1 s",
        "dead has been asked for its domains and does not answer yet: it has 0 s",
    ]


@pytest.mark.parametrize("end", ["", "\n", "\n\n"])
def test_what_others_say_may_lack_its_last_newline(ends: Ends, monkeypatch: pytest.MonkeyPatch, end: str) -> None:
    """A settings file of xl's that an editor or a script has left so; a relay that is killed while it answers."""
    conf = ends.folder / "xl.conf"
    conf.write_text(f'#autoballoon="on"\n autoballoon = "off"{end}')
    ends.program("pyxcsr-relay", f"printf %s 'version 1.0\nxen ok{end}'")
    monkeypatch.setattr(probe, "SCRIPT", probe.SCRIPT.replace(probe.CONF, shlex.quote(str(conf))))
    for name, value in ends.environ().items():
        monkeypatch.setenv(name, value)
    here = probe.facts_of(home.HOME, str(ends.helper))
    assert here.autoballoon == '"off"' and here.named(ends.guest) is not None
    assert (here.pyxcsr["version"], here.pyxcsr["xen"]) == ("1.0", "ok")


def test_what_ssh_leaves_behind_is_not_waited_for() -> None:
    """The master of its connections may keep its stderr for as long as it lives."""
    words = ["sh", "-c", '(sleep 60 >/dev/null </dev/null) & shift; exec sh -c "$*"', "sh", "host"]
    began = time.monotonic()
    try:
        probe.domains_of(route.Route("lingers", words), 40.0)
    except ProbeError as error:  # where there is no xl
        assert "no answer" not in str(error)
    assert time.monotonic() - began < 20


def test_how_long_an_answer_is_waited_for() -> None:
    assert probe.SECONDS == 120 and verdict.PATIENCE == (60, 30)


# -- signals


def begun(ends: Ends, play: str, wanted: str, *words: str) -> subprocess.Popen[str]:
    """A migration, up to the moment when it says something."""
    run = subprocess.Popen(
        ends.words(*words), env=ends.environ(play, FAKE_BYTES="20000000"), stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True, stdin=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    assert run.stderr is not None
    for line in run.stderr:
        if wanted in line:
            return run
    raise AssertionError(f"it never said {wanted!r}")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_the_save(ends: Ends, number: int) -> None:
    run = begun(ends, "slow", "live pass 0", "--progress")
    os.killpg(run.pid, number)  # as a terminal does it, and timeout(1)
    _, said = run.communicate(timeout=60)
    assert run.returncode == 128 + number, said
    assert "cancelled: the save was ended; it runs here (id 5)" in said and at_home(ends)


def test_a_signal_though_xl_has_not_been_heard_to_begin(ends: Ends) -> None:
    """There was a helper: xl has to live on, because it alone lets the guest go on."""
    run = begun(ends, "slow mute", "live pass 0", "--progress")
    run.send_signal(signal.SIGINT)
    _, said = run.communicate(timeout=60)
    assert run.returncode == 130 and at_home(ends), said


@pytest.mark.parametrize(("play", "when"), [("hang", "the helper has ended"), ("hang late-signal", "all is sent")])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_the_other_end_hangs(ends: Ends, play: str, when: str, number: int) -> None:
    run = begun(ends, play, when)
    os.killpg(run.pid, number)
    began = time.monotonic()
    _, said = run.communicate(timeout=120)
    assert run.returncode == 128 + number and time.monotonic() - began < 110, said
    assert "the connection was closed" in said and ends.names("here") == {"pulse": "-b----"}
    assert "half-built copy" in said


def test_a_signal_before_anything_is_sent(ends: Ends) -> None:
    run = begun(ends, "silent", "Ready to receive domain")
    run.send_signal(signal.SIGINT)
    _, said = run.communicate(timeout=120)
    assert run.returncode == 130 and "cancelled: nothing had been sent; it runs here (id 5)" in said, said
    assert at_home(ends)


def test_a_signal_too_late(ends: Ends) -> None:
    run = begun(ends, "", "Target has acknowledged")
    run.send_signal(signal.SIGINT)
    out, said = run.communicate(timeout=60)
    assert run.returncode == 0, said
    assert ends.names("there") == {"pulse": "-b----"} and "it runs there" in out


def test_a_signal_too_late_for_a_migration_that_fails(ends: Ends) -> None:
    """It was not the signal that ended it."""
    run = begun(ends, "startup-fails wait", "Target has acknowledged")
    run.send_signal(signal.SIGINT)
    _, said = run.communicate(timeout=60)
    assert run.returncode == 4 and "was not migrated: other failed" in said and "cancelled" not in said, said
    assert at_home(ends)
