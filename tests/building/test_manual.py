"""The man pages, the completions and the drop-in that the wheel brings: complete, and what man and the shells take."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pyxcsr.cli.main import COMMANDS
from pyxcsr.limits.words import WORDS

from .conftest import ROOT

pytest.importorskip("shtab", reason="shtab is not installed: pip install shtab")
sys.path.append(str(ROOT))  # behind the installed package
import build_manual

pytestmark = pytest.mark.toolchain


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with all files, made as a build makes them."""
    folder = tmp_path_factory.mktemp("manual")
    listed = build_manual.make(folder, "1.2.3")
    assert {Path(x).name for _, names in listed for x in names} == set(build_manual.PLACES)
    return folder


def run(*words: object, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(list(map(str, words)), cwd=folder, capture_output=True, text=True, check=False, timeout=60)


def needs(program: str) -> None:
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed: apt-get install {program}")


PAGES = ("pyxcsr.1", "pyxcsr-save-helper.8")


@pytest.mark.parametrize("page", PAGES)
def test_mandoc_finds_nothing_wrong(made: Path, page: str) -> None:
    needs("mandoc")
    done = run("mandoc", "-Tlint", "-W", "warning", page, folder=made)
    assert (done.stdout, done.returncode) == ("", 0)


@pytest.mark.parametrize("page", PAGES)
def test_groff_finds_nothing_wrong(made: Path, page: str) -> None:
    needs("groff")
    done = run("groff", "-ww", "-man", "-Tutf8", "-z", page, folder=made)
    assert (done.stderr, done.returncode) == ("", 0)


def text_of(page: Path) -> str:
    """What stands in it, without requests' names and escapes."""
    return re.sub(r"\\f[BRI]|\\&", "", page.read_text()).replace("\\-", "-").replace("\\(rs", "\\")


def test_each_command_and_option_is_in_the_page(made: Path) -> None:
    text = text_of(made / "pyxcsr.1")
    assert re.search(r'^\.TH PYXCSR 1 "\d{4}-\d\d-\d\d" "pyxcsr 1\.2\.3"$', text, re.MULTILINE)
    for name, parser in build_manual.parsers().items():
        part = text.partition(f"\n.SS {name}\n")[2].partition("\n.SS ")[0]
        assert part, f"no part about {name}"
        for action in parser._actions:
            for option in set(action.option_strings) - {"-h", "--help"}:
                assert option in part, f"{name} {option}"
    assert set(build_manual.parsers()) == set(COMMANDS)


def test_what_begins_with_a_dot_is_no_request() -> None:
    assert build_manual.roff(".so /etc/passwd\n'x\na-\\b `c`") == "\\&.so /etc/passwd\n\\&'x\na\\-\\(rsb \\fBc\\fR"


def test_variables_are_those_of_the_documents() -> None:
    lines = (ROOT / "docs/save-helper.md").read_text().splitlines()
    heads = " ".join(x.split("|")[1] for x in lines if x.startswith("| `P"))
    told = set(re.findall(r"`(PYXCSR_\w+)`", heads))
    assert {name for name, _ in build_manual.variables()} == told
    assert {x.variable for x in WORDS} < told


@pytest.mark.parametrize(("shell", "name"), build_manual.SHELLS.items())
def test_shells_take_the_completions(made: Path, shell: str, name: str) -> None:
    needs(shell)
    done = run(shell, "-n", name, folder=made)
    assert (done.stdout, done.stderr, done.returncode) == ("", "", 0)


COMPLETE = """
xl() { printf 'Name ID Mem VCPUs State Time\\nDomain-0 0 1 1 r 1\\ndb1 3 1 1 r 1\\nweb 4 1 1 r 1\\n'; }
. ./pyxcsr
COMP_WORDS=(%s) COMP_CWORD=%d
%s
printf '%%s\\n' "${COMPREPLY[@]}"
"""


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        ("pyxcsr dirt", {"dirty-rate"}),
        ("pyxcsr save --max-", {"--max-downtime", "--max-iterations"}),
        ("pyxcsr save --then de", {"destroy"}),
        ("pyxcsr cancel d", {"db1"}),
        ("pyxcsr verify pyxcsr-l", {"pyxcsr-libvirt.conf"}),
    ],
)
def test_bash_completes(made: Path, words: str, wanted: set[str]) -> None:
    needs("bash")
    function = re.findall(r"^complete .*-F (\w+) pyxcsr$", (made / "pyxcsr").read_text(), re.MULTILINE)
    done = run("bash", "-c", COMPLETE % (words, len(words.split()) - 1, function[0]), folder=made)
    assert (set(done.stdout.split()), done.stderr) == (wanted, "")


def test_without_shtab_there_are_no_completions(tmp_path: Path) -> None:
    """The build goes on, and says so."""
    text = "import sys; sys.modules['shtab'] = None; import build_manual; print(*build_manual.contents('1'))"
    done = run(sys.executable, "-c", f"import sys; sys.path.append({str(ROOT)!r}); {text}", folder=tmp_path)
    assert set(done.stdout.split()) == set(build_manual.PLACES) - set(build_manual.SHELLS.values()), done.stderr
    assert "no completions for shells are made: " in done.stderr and "shtab" in done.stderr


def test_the_drop_in(made: Path) -> None:
    lines = (made / "pyxcsr-libvirt.conf").read_text().splitlines()
    assert [x for x in lines if not x.startswith("#")] == [
        "[Service]", "Environment=LIBXL_SAVE_HELPER=/usr/local/bin/pyxcsr-save-helper", "Environment=PYXCSR_RESUME=yes",
    ]  # fmt: skip


def test_what_both_programs_obey_is_in_both_pages_and_the_document(made: Path) -> None:
    """Not those that are for the wheel's own making, or handed from one process of ours to the next."""
    from pyxcsr.limits import variables

    known = {x for x in re.findall(r"PYXCSR_\w+", Path(variables.__file__).read_text()) if not x.endswith("_")}
    internal = {"PYXCSR_BACKENDS", "PYXCSR_HANDED_OVER", "PYXCSR_WITHOUT"}
    assert "PYXCSR_LIBXENCTRL" in known
    for text in (text_of(made / "pyxcsr-save-helper.8"), (ROOT / "docs/save-helper.md").read_text()):
        assert [x for x in sorted(known - internal) if x not in text] == []
    assert "PYXCSR_LIBXENCTRL" in text_of(made / "pyxcsr.1")
