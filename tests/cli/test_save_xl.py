"""``pyxcsr save --format xl``, and the configuration that goes into it: from a file, or from libxl's record."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Optional

import pytest
from support import containers as c
from support import oracle
from support.judge import judge_rules

from pyxcsr.cli import xlfile
from pyxcsr.container.config import parse
from pyxcsr.container.verify import verify_input
from pyxcsr.container.xlconfig import ConfigUnavailable, check_name, of_domain, read_config
from pyxcsr.errors import Cancelled, UsageError
from pyxcsr.hypervisor.names import domain_name
from pyxcsr.hypervisor.open import StubBackend
from pyxcsr.hypervisor.stub.text import StubGuest

UUID = "e72eeec3-2435-4301-bdbd-b2339f1fa0b0"
GUEST = "pv64:mem=8M,name=guest"


def pyxcsr_run(*words: object, **options: Any) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "pyxcsr.cli.main", *map(str, words)]
    return subprocess.run(command, capture_output=True, check=False, timeout=120, **options)


# The record


class Store:
    """xenstore, as a dict."""

    def __init__(self, domid: int = 7, **nodes: Optional[str]) -> None:
        base = f"/local/domain/{domid}"
        self.nodes: dict[str, bytes] = {
            f"{base}/vm": f"/vm/{UUID}".encode(),
            f"{base}/name": b"guest",
            f"{base}/memory/target": b"204800",
            f"{base}/memory/static-max": b"524288",
        }
        for vcpu in range(4):
            self.nodes[f"{base}/cpu/{vcpu}/availability"] = b"online" if vcpu != 2 else b"offline"
        self.nodes.update({f"{base}/{name}": value.encode() for name, value in nodes.items() if value is not None})
        for name in [name for name, value in nodes.items() if value is None]:
            del self.nodes[f"{base}/{name}"]

    def xenstore_read(self, path: str, /) -> Optional[bytes]:
        return self.nodes.get(path)


def put_record(folder: Path, config: dict[str, Any], domid: int = 7, uuid: str = UUID, end: bytes = b"\0") -> Path:
    path = folder / f"userdata-d.{domid}.{uuid}.libxl-json"
    path.write_bytes(c.text_of(config) + end)
    return path


def had(store: Store, folder: Path, domid: int = 7) -> dict[str, Any]:
    return parse(of_domain(store, domid, str(folder)))


def test_what_xenstore_knows_better(tmp_path: Path) -> None:
    record = c.config(video_memkb=1024)
    record["c_info"]["domid"] = 4294967295
    put_record(tmp_path, record)
    config = had(Store(), tmp_path)
    wanted = c.config(video_memkb=1024)
    wanted["b_info"].update(target_memkb=204800 + 1024, max_memkb=524288, avail_vcpus=[0, 1, 3])
    assert config == wanted


def test_the_rest_of_the_record_is_kept(tmp_path: Path) -> None:
    record = c.config()
    record["x"] = {"y": [1, 2.5, None, "ä"], "z": {}}
    put_record(tmp_path, record, end=b"")
    assert had(Store(), tmp_path)["x"] == record["x"]


@pytest.mark.parametrize("name", ["guest--incoming", "guest", "older"])
def test_the_name_is_the_domains(name: str, tmp_path: Path) -> None:
    put_record(tmp_path, c.config(name=name))
    assert had(Store(), tmp_path)["c_info"]["name"] == "guest"


def test_no_memory_nodes(tmp_path: Path) -> None:
    put_record(tmp_path, c.config())
    nothing = {"memory/target": None, "memory/static-max": None}
    config = had(Store(**nothing), tmp_path)
    assert config["b_info"]["target_memkb"] == c.config()["b_info"]["target_memkb"]


def test_detached_devices_are_left_out(tmp_path: Path) -> None:
    record = c.config()
    record["nics"] = [{"devid": 0, "mac": "a"}, {"devid": 1, "mac": "b"}, {"mac": "c"}, "nonsense"]
    disks = {"xvda": 51712, "xvdb1": 51729, "xvdq": 268439552, "xvdaa": 268442112, "hda": 768, "hdd": 5696}
    disks["sda2"] = 2050
    record["disks"] = [{"vdev": vdev} for vdev in [*disks, "d0p5", "hde"]]
    put_record(tmp_path, record)
    store = Store()
    store.nodes["/libxl/7/device/vif/1"] = b""
    kept = ["xvda", "xvdq", "hdd", "sda2"]
    for vdev in kept[:3]:
        store.nodes[f"/libxl/7/device/vbd/{disks[vdev]}"] = b""
    store.nodes[f"/local/domain/7/device/vbd/{disks['sda2']}"] = b""  # where Xen 4.7 and older have it
    config = had(store, tmp_path)
    assert config["nics"] == [{"devid": 1, "mac": "b"}, {"mac": "c"}, "nonsense"]  # unknown ones stay
    assert [disk["vdev"] for disk in config["disks"]] == [*kept, "d0p5", "hde"]
    store.nodes.update({f"/libxl/7/device/vbd/{number}": b"" for number in disks.values()})
    store.nodes["/libxl/7/device/vif/0"] = b""
    config = had(store, tmp_path)
    assert len(config["disks"]) == len(record["disks"]) and len(config["nics"]) == 4


@pytest.mark.parametrize(
    ("store", "damage", "words"),
    [
        (Store(), "none", "there is no .*userdata-d.7.*another toolstack"),
        (Store(vm=None), "none", r"there is no userdata-d\.7"),
        (Store(vm=None), "two", "several records"),
        (Store(vm="/vm/../../../etc"), "two", "several records"),
        (Store(), "half", "damaged: line"),
        (Store(), "empty", "damaged: line 1"),
        (Store(), "list", "damaged: not an object"),
        (Store(), "{}", "damaged: it lacks"),
        (Store(), "directory", "Is a directory"),
        (Store(name=None), "", "no name in xenstore"),
        (Store(name=""), "", "no name in xenstore"),
        (Store(**{"memory/target": "12x"}), "", "not a number"),
        (Store(**{"memory/static-max": "9" * 30}), "", "not a number"),
    ],
)
def test_where_it_cannot_be_had(store: Store, damage: str, words: str, tmp_path: Path) -> None:
    if damage != "none":
        path = put_record(tmp_path, c.config())
        if damage == "half":
            path.write_bytes(path.read_bytes()[:100])
        elif damage == "two":
            put_record(tmp_path, c.config(), uuid=UUID.replace("e", "f"))
        elif damage == "directory":
            path.unlink()
            path.mkdir()
        elif damage:
            path.write_bytes({"empty": b"", "list": b"[]", "{}": b"{}"}[damage])
    put_record(tmp_path, c.config(), domid=77)
    with pytest.raises(ConfigUnavailable, match=words) as raised:
        of_domain(store, 7, str(tmp_path))
    assert "--config" in str(raised.value) and raised.value.domid == 7


def test_a_name_that_is_not_utf8(tmp_path: Path) -> None:
    put_record(tmp_path, c.config())
    store = Store()
    store.nodes["/local/domain/7/name"] = b"\xff"
    with pytest.raises(ConfigUnavailable, match="UTF-8"):
        of_domain(store, 7, str(tmp_path))


def test_without_a_uuid_the_only_record_is_taken(tmp_path: Path) -> None:
    put_record(tmp_path, c.config(name="x"))
    put_record(tmp_path, c.config(name="y"), domid=77)
    assert had(Store(vm=None), tmp_path)["c_info"]["name"] == "guest"


def test_another_uuids_record_is_not_taken(tmp_path: Path) -> None:
    put_record(tmp_path, c.config(), uuid=UUID.replace("e", "f"))
    with pytest.raises(ConfigUnavailable, match=UUID):
        of_domain(Store(), 7, str(tmp_path))


# A file


def test_configuration_files(tmp_path: Path) -> None:
    path = tmp_path / "f"
    text = c.text_of(c.config())
    for data in (text, text + b"\0", c.xl(), c.xl()[: 48 + 4 + len(text) + 1]):
        path.write_bytes(data)
        assert read_config(str(path)) == text


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "line 1"),
        (b"name = 'x'", "line 1"),
        (b"[{}]", "a list"),
        (c.xl(text=b""), "no configuration"),
        (c.xl(text=b"name = 1\0", must=2), "line 1"),
        (b" " * ((4 << 20) + 9), "more than"),
        (c.xl()[:40], "f: the input ends"),
        (c.xl()[:70], "f: the input ends"),
        (c.xl(must=1), "f: .*legacy"),
    ],
    ids=["empty", "xl.cfg", "list", "empty-in-xl", "text-in-xl", "long", "half-header", "half-config", "legacy"],
)
def test_bad_configuration_files(data: bytes, words: str, tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(data)
    with pytest.raises(UsageError, match=words):
        read_config(str(tmp_path / "f"))


def test_names() -> None:
    text = c.text_of(c.config(name="ä"))
    check_name(text, "ä".encode(), "f")
    check_name(text, None, "f")
    for other in (b"a", b"", b"\xff"):
        with pytest.raises(UsageError, match="the domain's name is"):
            check_name(text, other, "f")
    assert domain_name(Store(), 7) == b"guest" and domain_name(Store(), 8) is None


# Saving


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "config.json"
    path.write_bytes(c.text_of(c.config()))
    return path


@pytest.mark.parametrize("live", ["--live", "--no-live"])
def test_save(live: str, config: Path, tmp_path: Path) -> None:
    path = tmp_path / "f.xl"
    words = ("save", "--backend", "stub", "--format", "xl", "--config", config, live, "--json")
    done = pyxcsr_run(*words, GUEST, path)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["format"] == "xl"
    with path.open("rb") as file:
        found = verify_input(file)
    assert found.ok and found.bytes == report["bytes"]
    assert found.container and found.container.config == c.config()
    assert path.stat().st_mode & 0o777 == 0o600
    accepted, said = oracle.accepts(path, container="xl")
    assert accepted, said
    raw = tmp_path / "raw"
    assert pyxcsr_run("convert", path, raw).returncode == 0
    judge_rules(raw)
    done = pyxcsr_run(*words, GUEST, "-")
    assert done.returncode == 0 and done.stdout.startswith(c.MAGIC)
    assert pyxcsr_run("verify", "-", input=done.stdout).returncode == 0


def test_restore_out_of_a_container(config: Path, tmp_path: Path) -> None:
    """A save file, a libxl stream and the stream itself give the same guest; what is damaged ahead of it is named."""
    words = ("--backend", "stub", "--no-live", "--quiet")
    paths = [tmp_path / x for x in ("xl", "libxl", "raw")]
    assert pyxcsr_run("save", *words, "--format", "xl", "--config", config, GUEST, paths[0]).returncode == 0
    assert pyxcsr_run("convert", "--to", "libxl", paths[0], paths[1]).returncode == 0
    assert pyxcsr_run("convert", paths[0], paths[2]).returncode == 0
    reports = []
    for path in paths:
        done = pyxcsr_run("restore", "--backend", "stub", "--json", path)
        assert done.returncode == 0, done.stderr
        report = json.loads(done.stdout)
        reports.append({name: value for name, value in report.items() if "seconds" not in name})
    assert reports[0] == reports[1] == reports[2]
    ends = paths[1].stat().st_size - 8
    (tmp_path / "cut").write_bytes(paths[1].read_bytes()[:ends])
    done = pyxcsr_run("restore", "--backend", "stub", tmp_path / "cut")
    assert done.returncode == 0
    assert f"the container around the stream: the input ends at byte {ends}" in done.stderr.decode()
    data = bytearray(paths[1].read_bytes())
    data[20] ^= 1  # the type of libxl's first record
    paths[1].write_bytes(data)
    done = pyxcsr_run("restore", "--backend", "stub", paths[1])
    assert done.returncode == 2 and b"not an empty LIBXC_CONTEXT" in done.stderr
    paths[0].write_bytes(paths[0].read_bytes()[:40])
    done = pyxcsr_run("restore", "--backend", "stub", paths[0])
    assert done.returncode == 2 and b"the input ends" in done.stderr


@pytest.mark.parametrize(
    ("words", "guest", "said"),
    [
        (("--format", "xl"), GUEST, b"needs --config JSON on the stub"),
        (("--config", "config.json"), GUEST, b"--config is for --format xl"),
        (("--format", "xl", "--config", "none"), GUEST, b"none: No such file"),
        (("--format", "xl", "--config", "hvm.json"), GUEST, b"of a hvm guest"),
        (("--format", "xl", "--config", "config.json"), "pv64:mem=8M,name=other", b"the domain's name is 'other'"),
    ],
)
def test_refused_ahead_of_everything(
    words: tuple[str, ...], guest: str, said: bytes, config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "hvm.json").write_bytes(c.text_of(c.config("hvm")))
    before = sorted(tmp_path.iterdir())
    done = pyxcsr_run("save", "--backend", "stub", *words, guest, "out")
    assert done.returncode == 2, done.stderr
    assert said in done.stderr and b"Traceback" not in done.stderr
    assert sorted(tmp_path.iterdir()) == before


class Arguments:
    """What argparse would give."""

    format, backend, config = "xl", "xen", None


def test_the_guest_is_not_touched_without_a_configuration(hv: StubBackend) -> None:
    """Nothing is asked of it but what it is; on the stub there is no record of libxl's for it."""
    domid = hv.stub.create(StubGuest.parse(GUEST))
    with pytest.raises(ConfigUnavailable):
        xlfile.config_for(hv, domid, Arguments())  # type: ignore[arg-type]
    info = hv.domain_info(domid)
    assert not info.suspended and not info.paused


def test_cancelled_while_the_end_cannot_be_written(hv: StubBackend) -> None:
    """A reader that has stopped must not hold a suspended guest."""
    out, into = os.pipe()
    asked = []

    def cancel() -> bool:
        asked.append(1)
        return len(asked) > 2

    with pytest.raises(Cancelled), xlfile.wrapped(hv, 1, into, b"{}", None, cancel):
        os.set_blocking(into, False)
        with pytest.raises(BlockingIOError):
            while True:
                os.write(into, bytes(4096))
        os.set_blocking(into, True)
    assert len(asked) == 3
    os.close(out)
    os.close(into)


def test_nothing_is_put_around_a_bare_stream(hv: StubBackend, tmp_path: Path) -> None:
    with (tmp_path / "f").open("wb") as file, xlfile.wrapped(hv, 1, file.fileno(), None, None, lambda: False):
        pass
    assert (tmp_path / "f").read_bytes() == b""


def test_no_end_after_a_failure(hv: StubBackend, tmp_path: Path) -> None:
    def fail(fd: int) -> None:
        with xlfile.wrapped(hv, 1, fd, b"{}", None, lambda: False):
            raise RuntimeError

    with (tmp_path / "f").open("wb") as file, pytest.raises(RuntimeError):
        fail(file.fileno())
    assert (tmp_path / "f").read_bytes().endswith(c.LIBXL_HEADER + c.record(c.LIBXC))
