"""`pyxcsr save` with limits: options, variables and the settings file, and what is said of them."""

from __future__ import annotations

import json
import signal
import subprocess
from pathlib import Path

import pytest

from cli.programs import SAVE, environment, run

BUSY = "pv64:mem=8M,writes=300,name=db"
IDLE = "pv64:mem=8M,writer=none"


def report(*words: object, **env: str) -> dict[str, object]:
    done = run(*words, "--json", "--force", command=SAVE, env=environment(**env))
    assert done.returncode == 0, done.stderr
    found: dict[str, object] = json.loads(done.stdout)
    return found


def passes(found: dict[str, object]) -> int:
    assert isinstance(found["passes"], list)
    return len(found["passes"])


def test_max_downtime(tmp_path: Path) -> None:
    found = report(BUSY, tmp_path / "s", "--max-downtime", "60s", "--timeout", "10m")
    assert found["max_downtime"] == 60 and found["downtime_kept"] is True and found["policy"] == "adaptive"
    assert isinstance(found["predicted_pause"], float)
    done = run(BUSY, tmp_path / "s", "--force", "--max-downtime", "1us", "--max-iterations", "2", command=SAVE)
    assert done.returncode == 0
    assert b"note: max_downtime of 0.001 ms was not kept: the guest was paused for" in done.stdout
    assert b"note: the guest was suspended because of max_iterations (2 live passes" in done.stdout
    assert b" predicted)" in done.stdout


def test_max_downtime_with_verify(tmp_path: Path) -> None:
    """Where a file or a variable has it, it does not hold, which is said; as an option it is an error."""
    (tmp_path / "conf").write_text("[guests]\nmax_downtime = 60s\n")
    for env in ({"PYXCSR_CONFIG": str(tmp_path / "conf")}, {"PYXCSR_MAX_DOWNTIME": "60s"}):
        done = run(IDLE, tmp_path / "s", "--verify", "--force", "--json", command=SAVE, env=environment(**env))
        assert done.returncode == 0 and json.loads(done.stdout)["max_downtime"] is None
        assert b"max_downtime does not hold: verify sends all memory again while the guest is paused (" in done.stderr
    done = run(IDLE, tmp_path / "t", "--verify", "--max-downtime", "60s", command=SAVE)
    assert done.returncode == 2 and b"--max-downtime: of no use with --verify" in done.stderr
    assert not (tmp_path / "t").exists()


def test_libxc_by_name(tmp_path: Path) -> None:
    found = report(BUSY, tmp_path / "s", "--policy", "libxc")
    assert (found["policy"], passes(found), found["target_dirty"]) == ("libxc", 6, 50)


def test_a_misspelt_variable_is_told_of(tmp_path: Path) -> None:
    """Also with --quiet: a limit that was wanted does not hold."""
    done = run(IDLE, tmp_path / "s", "--quiet", command=SAVE, env=environment(PYXCSR_MAXDOWNTIME="1ms"))
    assert (done.returncode, done.stdout) == (0, b"")
    assert done.stderr == b"pyxcsr: PYXCSR_MAXDOWNTIME is no setting of pyxcsr's: it changes nothing\n"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--max-downtime", "300"], "--max-downtime is '300': '300' has no unit"),
        (["--max-downtime", "1parsec"], "--max-downtime is '1parsec': '1parsec' has unknown unit"),
        (["--bandwidth", "fast"], "--bandwidth is 'fast'"),
        (["--policy", "best"], "--policy is 'best'"),
        (["--on-timeout", "suspend"], "there is no timeout: give one (on_timeout: --on-timeout)"),
        (["--timeout", "1s", "--max-downtime", "2s"], "(max_downtime: --max-downtime; timeout: --timeout)"),
        (["--policy", "libxc", "--abort-if-busy"], "policy libxc goes by"),
        (["--no-live", "--target-dirty", "0"], "--target-dirty: of no use with --no-live"),
        (["--no-live", "--max-downtime", "1s"], "--max-downtime: of no use with --no-live"),
        (["--no-live", "--timeout", "1s", "--on-timeout", "suspend"], "--on-timeout suspend: of no use"),
    ],
)
def test_what_makes_no_sense(tmp_path: Path, words: list[str], said: str) -> None:
    done = run(IDLE, tmp_path / "s", *words, command=SAVE)
    assert done.returncode == 2 and said in done.stderr.decode()
    assert list(tmp_path.iterdir()) == []


def test_which_goes_before_which(tmp_path: Path) -> None:
    config = tmp_path / "x.conf"
    config.write_text("[guests]\ntarget_dirty = 0\nmax_iterations = 2\n[guest db]\nmax_iterations = 3\n")
    env = {"PYXCSR_CONFIG": str(config)}
    other = BUSY.replace("=db", "=web")
    assert passes(report(other, tmp_path / "s", **env)) == 3
    assert passes(report(BUSY, tmp_path / "s", **env)) == 4
    assert passes(report(BUSY, tmp_path / "s", **env, PYXCSR_MAX_ITERATIONS="4")) == 5
    assert passes(report(BUSY, tmp_path / "s", "--max-iterations", "5", **env, PYXCSR_MAX_ITERATIONS="4")) == 6
    found = report(BUSY, tmp_path / "s", "--policy", "libxc", "--target-dirty", "none", "--max-iterations=none", **env)
    assert (passes(found), found["target_dirty"]) == (6, 50), "the settings are lifted"
    assert passes(report(BUSY, tmp_path / "s", "--no-live", **env)) == 1, "what is said of all does not stop this one"


def test_a_settings_file_that_is_wrong(tmp_path: Path) -> None:
    config = tmp_path / "x.conf"
    config.write_text("[guests]\n\nmaxdowntime = 1s\n")
    done = run(IDLE, tmp_path / "s", command=SAVE, env=environment(PYXCSR_CONFIG=str(config)))
    assert done.returncode == 2
    said = f"pyxcsr: {config}, line 3: there is no setting 'maxdowntime' (there are policy,"
    assert done.stderr.decode().startswith(said)
    assert not (tmp_path / "s").exists()


def test_ways_to_end_it(tmp_path: Path) -> None:
    done = run(BUSY, tmp_path / "s", "--timeout", "300ms", "--bandwidth", "512K", "--json", command=SAVE)
    assert done.returncode == 1
    error = json.loads(done.stdout)["error"]
    assert error["class"] == "Cancelled" and error["facts"]["limit"] == "timeout"
    done = run("pv64:mem=4M,writes=3000", tmp_path / "s", "--abort-if-busy", command=SAVE)
    assert done.returncode == 1 and b"abort_if_busy: the guest dirties pages as fast as they can be sent" in done.stderr
    assert not (tmp_path / "s").exists()


def test_a_save_that_is_held_back_can_be_interrupted(tmp_path: Path) -> None:
    """It would take half an hour."""
    command = [*SAVE, IDLE, str(tmp_path / "s"), "--bandwidth", "4096", "--progress"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stderr is not None
        process.stderr.readline()
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 128 + signal.SIGTERM
    assert list(tmp_path.iterdir()) == []
