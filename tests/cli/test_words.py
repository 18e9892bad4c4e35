"""The right refusal in the right words, for each mistake that a user makes; never a traceback."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
from support.judge import judge_rules

import pyxcsr
from cli.programs import COMMAND, GUEST, SAVE, environment, run
from pyxcsr.cli import main, opening
from pyxcsr.hypervisor import open as opens
from pyxcsr.units import parse_size


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("image") / "s"
    assert run(GUEST, path, "--quiet", command=SAVE).returncode == 0
    return path


# Without Xen


def test_without_xen_the_stub_is_named(tmp_path: Path) -> None:
    if Path("/dev/xen/privcmd").exists():
        pytest.skip("this is a Xen host")
    save, restore = ["save", "1", str(tmp_path / "s")], ["restore", os.devnull, "--domid", "1"]
    for words in (save, restore, ["recover", "1"], ["dirty-rate", "1"]):
        done = run(*words)
        assert done.returncode == 2 and b"--backend stub" in done.stderr


@pytest.mark.parametrize("error", [pyxcsr.BackendUnavailable("no library", backend="xen"),
                                   pyxcsr.PrivilegeError("no device", op="open", errno=2)])  # fmt: skip
def test_whatever_is_missing_of_xen(error: pyxcsr.XcsrError, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_name: str) -> None:
        raise error

    monkeypatch.setattr(opening, "open_hypervisor", fail)
    with pytest.raises(type(error), match="pyxcsr save --backend stub"):
        opening.opened("xen", "save")


def test_a_source_tree_says_that_it_is_one(tmp_path: Path) -> None:
    """Python imports the package of the folder that it runs in, though another is installed."""
    tree = tmp_path / "clone"
    (tree / "csrc").mkdir(parents=True)
    (tree / "build_ffi.py").touch()
    package = Path(opens.__file__).resolve().parents[1]
    subprocess.run(["cp", "-r", package, tree / "pyxcsr"], check=True)
    for built in (tree / "pyxcsr").glob("_*.so"):
        built.unlink()
    env = environment(PYTHONPATH=os.fspath(tree))
    for backend in ("stub", "xen"):
        done = run("save", "--backend", backend, "1", "s", cwd=tree, env=env)
        assert done.returncode == 2
        assert f"source tree in {tree}".encode() in done.stderr and b"pip install" in done.stderr
    assert not opens.is_source_tree(package) or (package.parent / "csrc").is_dir()


# Sizes


@pytest.mark.parametrize(
    ("text", "nr_bytes"),
    [
        ("64MiB", 64 << 20), ("4GB", 4 << 30), ("1.5G", 3 << 29), ("4096", 4096), ("64k", 65536), ("2T", 2 << 40),
        ("0.5 GiB", 1 << 29), ("256MB", 256 << 20), ("512B", 512), ("64Mib", 64 << 20), (" 1G ", 1 << 30),
    ],
)  # fmt: skip
def test_sizes(text: str, nr_bytes: int) -> None:
    assert parse_size(text) == nr_bytes


@pytest.mark.parametrize("text", ["", "G", "1.5", "1.G", ".5G", "-1G", "1e3", "1X", "1GG", "1iB", "0x10", "1.3K", "٤G"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(pyxcsr.UsageError):
        parse_size(text)


def test_a_guest_that_does_not_fit() -> None:
    for words in (("demo", "--mem", "9G"), ("save", "--backend", "stub", "pv64:mem=9G", "-", "--receiver-timeout=1")):
        done = run(*words)
        assert done.returncode == 2 and b"9216 MiB of memory does not fit" in done.stderr and b"less" in done.stderr


# Errors as JSON


def test_a_failed_save_as_json(tmp_path: Path) -> None:
    done = run(f"{GUEST},suspend=crash", tmp_path / "s", "--json", command=SAVE)
    told = json.loads(done.stdout)
    assert done.returncode == 1 and told["ok"] is False and told["error"]["class"] == "SuspendError"
    assert told["error"]["facts"]["reason"] == 3 and "crash" in told["error"]["message"]
    done = run(GUEST, "/dev/full", "--json", command=SAVE)
    assert json.loads(done.stdout)["error"]["facts"]["errno"] == 28
    with open("/dev/full", "wb") as full:
        done = run(GUEST, "-", "--json", command=SAVE, stdout=full)
    assert done.returncode == 1 and json.loads(done.stderr)["error"]["class"] == "OutputError"
    done = run(GUEST, tmp_path / "s", "--json", "--max-iterations", "0", command=SAVE)
    assert done.returncode == 2 and json.loads(done.stdout)["error"]["class"] == "UsageError"


def test_other_failures_as_json(image: Path, tmp_path: Path) -> None:
    (tmp_path / "cut").write_bytes(image.read_bytes()[:100000])
    done = run("restore", "--backend", "stub", "--json", tmp_path / "cut")
    told = json.loads(done.stdout)["error"]
    assert done.returncode == 1 and told["class"] == "StreamTruncated" and told["facts"]["offset"] > 0
    for command in ("verify", "inspect"):
        done = run(command, "--json", os.devnull)
        assert done.returncode == 2 and json.loads(done.stdout)["error"]["class"] == "NotAStream"
        done = run(command, "--json", tmp_path / "nothing")
        assert done.returncode == 2 and json.loads(done.stdout)["error"]["facts"]["errno"] == 2
    for words in (["save", "--json"], ["restore", "--json", "--no-such-option"]):
        done = run(*words)
        assert done.returncode == 2 and json.loads(done.stdout)["error"]["class"] == "UsageError"


def test_a_guest_that_crashes_is_told_once(tmp_path: Path) -> None:
    done = run(f"{GUEST},suspend=crash", tmp_path / "s", command=SAVE)
    assert done.stderr.count(b"crash") == 1 and b"suspended: let it" not in done.stderr


# Names


@pytest.mark.parametrize("length", [229, 230, 240, 248, 249, 255])
def test_a_long_name_that_is_legal(tmp_path: Path, length: int) -> None:
    path = tmp_path / ("n" * length)
    assert run(GUEST, path, "--quiet", command=SAVE).returncode == 0
    judge_rules(path, xen=False)
    assert run("restore", "--backend", "stub", "--quiet", path).returncode == 0
    assert list(tmp_path.iterdir()) == [path]
    pytest.importorskip("xxhash")
    done = run(GUEST, path, "--quiet", "--force", "--checksum", command=SAVE)
    assert done.returncode == (0 if length <= 248 else 2)
    assert run("verify", path, "--quiet").returncode == 0
    assert b"too long" in done.stderr or length <= 248


def test_a_long_name_of_wide_characters(tmp_path: Path) -> None:
    path = tmp_path / ("é" * 127)
    assert run(GUEST, path, "--quiet", command=SAVE).returncode == 0 and list(tmp_path.iterdir()) == [path]


def test_a_name_that_is_too_long(tmp_path: Path) -> None:
    """It is refused before a guest is copied, not after that."""
    done = run(GUEST, tmp_path / ("n" * 256), "--progress", command=SAVE)
    assert done.returncode == 2 and b"more than 255 bytes" in done.stderr and b"pass" not in done.stderr


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    """The file is named as the user knows it, not as it is called while it is incomplete."""
    done = run(GUEST, tmp_path / "nothing/image", command=SAVE)
    assert done.returncode == 2 and b"nothing/image: cannot be created: No such file" in done.stderr
    assert b"partial" not in done.stderr


@pytest.mark.parametrize("kind", ["pvh", "hvm"])
def test_a_stream_of_another_kind_of_guest(tmp_path: Path, kind: str) -> None:
    assert run(f"{kind}:mem=8M", tmp_path / "s", "--quiet", command=SAVE).returncode == 0
    done = run("restore", "--backend", "stub", "--json", tmp_path / "s")
    error = json.loads(done.stdout)["error"]
    assert done.returncode == 2 and error["class"] == "StreamError"
    assert "HVM or PVH guest's, and domain 1 is a PV domain" in error["message"] and "--kind" in error["message"]
    assert run("restore", "--backend", "stub", "--kind", kind, tmp_path / "s").returncode == 0
    assert run(GUEST, tmp_path / "pv", "--quiet", command=SAVE).returncode == 0
    done = run("restore", "--backend", "stub", "--kind", kind, tmp_path / "pv")
    assert done.returncode == 2 and b"a PV guest's, and domain 1 is an HVM or PVH domain" in done.stderr


@pytest.mark.parametrize("encoding", ["", "utf-8:strict"])
@pytest.mark.parametrize("locale", ["C", "C.UTF-8", "POSIX"])
def test_a_name_that_is_not_utf_8(tmp_path: Path, locale: str, encoding: str) -> None:
    """Python lets such names pass in these locales; in any other the outputs are strict, as with PYTHONIOENCODING."""
    name = b"s\xff\xfe\xc3\xa9"
    env = environment(LC_ALL=locale, PYTHONCOERCECLOCALE="0", PYTHONUTF8="0", PYTHONIOENCODING=encoding)
    for words in (
        [*SAVE, GUEST, name], [*SAVE, "--json", "--force", GUEST, name], [*COMMAND, "verify", name],
        [*COMMAND, "verify", "--json", name], [*COMMAND, "inspect", name],
        [*COMMAND, "restore", "--backend", "stub", name],
    ):  # fmt: skip
        done = subprocess.run(words, capture_output=True, check=False, timeout=60, cwd=tmp_path, env=env)
        assert (done.returncode, done.stderr) == (0, b"")
        if b"verify" in words or "verify" in words:
            assert name in done.stdout or b"udcff" in done.stdout
    done = subprocess.run(
        [*COMMAND, "verify", name + b"x"], capture_output=True, check=False, timeout=60, cwd=tmp_path, env=env
    )
    assert done.returncode == 2 and name in done.stderr and b"Traceback" not in done.stderr


# Streams


def test_a_cut_file_is_named(image: Path, tmp_path: Path) -> None:
    (tmp_path / "cut").write_bytes(image.read_bytes()[:100000])
    for words in (["restore", "--backend", "stub"], ["convert", "--to", "libxl"]):
        done = run(*words, tmp_path / "cut", *(["-"] if words[0] == "convert" else []))
        assert done.returncode == 1 and done.stderr.startswith(f"pyxcsr: {tmp_path}/cut: ".encode())
    done = run("restore", "--backend", "stub", "-", input=b"")
    assert done.returncode == 2 and done.stderr.startswith(b"pyxcsr: standard input: the input is empty")


# The target of a live save


def test_a_target_that_was_missed_is_said(tmp_path: Path) -> None:
    busy = "pv64:mem=16M,writer=calls,writes=400"
    done = run(busy, tmp_path / "s", "--target-dirty", "1", "--max-iterations", "3", command=SAVE)
    assert b"note: the target of fewer than 1 dirty pages was not reached in 3 passes" in done.stdout
    done = run(busy, tmp_path / "s", "--target-dirty=1", "--max-iterations=3", "--json", "--force", command=SAVE)
    report = json.loads(done.stdout)
    assert report["target_reached"] is False and report["target_dirty"] == 1
    done = run("pv64:mem=16M", tmp_path / "s", "--json", "--force", "--policy", "libxc", command=SAVE)
    assert json.loads(done.stdout)["target_reached"] is True
    done = run("pv64:mem=16M", tmp_path / "s", "--json", "--force", "--no-live", command=SAVE)
    assert json.loads(done.stdout)["target_reached"] is None


def test_passes_have_the_same_numbers(tmp_path: Path) -> None:
    saved = run("pv64:mem=16M,writes=100", tmp_path / "s", command=SAVE).stdout.decode()
    told = run("inspect", tmp_path / "s").stdout.decode()
    rows = {x.split()[0]: x.split()[3] for x in saved.splitlines() if x.split()[1:2] in (["running"], ["paused"])}
    passes = [x.split() for x in told.splitlines() if x.startswith("pass ")]
    assert "0" in rows and [x[1] for x in passes] == [f"{n}:" for n in range(len(passes))]
    assert passes[0][4] == rows["0"], "pages with data in the first"


# Several files


def test_verify_of_several_files(image: Path, tmp_path: Path) -> None:
    (tmp_path / "cut").write_bytes(image.read_bytes()[:100000])
    done = run("verify", image, tmp_path / "cut", image)
    assert done.returncode == 1 and done.stdout.count(b": ok; ") == 2 and b"[truncated]" in done.stdout
    done = run("verify", tmp_path / "cut", os.devnull, image)
    assert done.returncode == 2 and done.stdout.count(b": ok; ") == 1
    assert b"/dev/null: the input is empty" in done.stderr
    done = run("verify", "--json", image, tmp_path / "cut", os.devnull)
    assert [(x["file"], x["ok"]) for x in json.loads(done.stdout)] == [
        (str(image), True), (str(tmp_path / "cut"), False), (os.devnull, False)
    ]  # fmt: skip
    assert run("verify", "-", "-", input=b"").returncode == 2


def test_quiet(image: Path, tmp_path: Path) -> None:
    (tmp_path / "cut").write_bytes(image.read_bytes()[:100000])
    for path, status in ((image, 0), (tmp_path / "cut", 1)):
        done = run("verify", "--quiet", path)
        assert (done.returncode, done.stdout, done.stderr) == (status, b"", b"")
    assert run("verify", "--quiet", os.devnull).stderr


def test_columns_are_explained() -> None:
    text = b" ".join(run("save", "--help").stdout.split())
    assert b"deferred, those that could not be sent" in text and b"holes, frame numbers without memory" in text


def test_an_error_of_the_system_is_none_of_ours(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from pyxcsr.cli import inspect

    for error, words in ((PermissionError(13, "Permission denied", "x"), "x: Permission denied"),
                         (MemoryError(), "no memory left")):  # fmt: skip
        def fail(*_words: object, error: BaseException = error, **_named: object) -> None:
            raise error

        monkeypatch.setattr(inspect, "open_input", fail)
        assert main.main(["inspect", "x"]) in (1, 2)
        assert words in capsys.readouterr().err
