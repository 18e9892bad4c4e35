"""Whether an error says that nothing was done: what a caller destroys a domain by, or keeps it."""

from __future__ import annotations

import tempfile
from typing import Any

import pytest

import pyxcsr

GUEST = pyxcsr.StubGuest.pv64(mem="4M")

SAVED_WRONGLY: list[dict[str, Any]] = [
    {"timeout": "10"}, {"live": 0}, {"progress": 5}, {"policy": "none"}, {"policy": pyxcsr.SimplePolicy},
    {"policy": pyxcsr.AdaptivePolicy}, {"p2m_changes": "ignore"}, {"checkpointed": -1}, {"max_iterations": 0},
    {"limits": pyxcsr.Limits(), "timeout": 1.0}, {"compress": "zip"}, {"compress": "zstd", "checkpointed": 1},
    {"map_ahead": 2}, {"suspend": 3}, {"device_model": 4},
]  # fmt: skip

RESTORED_WRONGLY: list[dict[str, Any]] = [
    {"silence": "2s"}, {"progress": 5}, {"store_evtchn": -1}, {"checkpoint": lambda: True}, {"cancel": 1},
    {"static_data_done": "x"}, {"console_domid": "0"},
]  # fmt: skip


def named(words: dict[str, Any]) -> str:
    """A name that is the same in every process."""
    return ",".join(f"{x}={'function' if callable(value) else type(value).__name__}" for x, value in words.items())


@pytest.mark.parametrize("wrong", SAVED_WRONGLY, ids=named)
def test_a_wrong_argument_of_a_save(wrong: dict[str, Any]) -> None:
    with pyxcsr.open_hypervisor("stub") as hv, tempfile.TemporaryFile() as out:
        domid = hv.stub.create(GUEST)
        with pytest.raises(pyxcsr.UsageError) as error:
            pyxcsr.save(hv, domid, out, **wrong)
        assert error.value.untouched and out.tell() == 0
        assert hv.domain_info(domid).condition == "running"


@pytest.mark.parametrize("wrong", RESTORED_WRONGLY, ids=named)
def test_a_wrong_argument_of_a_restore(wrong: dict[str, Any]) -> None:
    with pyxcsr.open_hypervisor("stub") as hv, tempfile.TemporaryFile() as in_:
        with pytest.raises(pyxcsr.UsageError) as error:
            pyxcsr.restore(hv, hv.stub.create(GUEST), in_, **wrong)
        assert error.value.untouched


def other_error() -> pyxcsr.XcsrError:
    error = pyxcsr.UsageError("of another operation")
    error.untouched = True
    return error


def raising(*where: str) -> Any:
    def tell(progress: pyxcsr.Progress) -> None:
        if progress.phase in where:
            raise other_error()

    return tell


@pytest.mark.parametrize(
    ("live", "phase"), [(True, "pass"), (True, "suspend"), (True, "final"), (True, "done"), (False, "final")]
)
def test_a_save_that_has_begun(live: bool, phase: str) -> None:
    with pyxcsr.open_hypervisor("stub") as hv, tempfile.TemporaryFile() as out:
        domid = hv.stub.create(GUEST)
        with pytest.raises(pyxcsr.UsageError, match="of another operation") as error:
            pyxcsr.save(hv, domid, out, progress=raising(phase), live=live)
        assert not error.value.untouched


def test_checkpoints_that_have_been_written() -> None:
    def raise_at_second(done: pyxcsr.Checkpoint) -> None:
        if done.number == 2:
            raise other_error()

    with pyxcsr.open_hypervisor("stub") as hv, tempfile.TemporaryFile() as out:
        with pytest.raises(pyxcsr.UsageError) as error:
            asked = pyxcsr.Checkpointed(0, count=3, checkpoint=raise_at_second)
            pyxcsr.save(hv, hv.stub.create(GUEST), out, checkpointed=asked)
        assert not error.value.untouched


@pytest.mark.parametrize("phase", ["pass", "done"])
def test_a_restore_that_has_begun(phase: str) -> None:
    with pyxcsr.open_hypervisor("stub") as hv, tempfile.TemporaryFile() as stream:
        pyxcsr.save(hv, hv.stub.create(GUEST), stream)
        stream.seek(0)
        with pytest.raises(pyxcsr.UsageError) as error:
            pyxcsr.restore(hv, hv.stub.create_empty("4M"), stream, progress=raising(phase))
        assert not error.value.untouched


def test_a_policy_that_returns_no_decision() -> None:
    with pyxcsr.open_hypervisor("stub") as hv, tempfile.TemporaryFile() as out:
        with pytest.raises(pyxcsr.UsageError, match=r"no pyxcsr\.Decision") as error:
            pyxcsr.save(hv, hv.stub.create(GUEST), out, policy=lambda stats: 5)  # type: ignore[arg-type,return-value]
        assert not error.value.untouched
