import subprocess
import sys

import pytest

import lesionkit as package
from lesionkit.cli import main as module
from lesionkit.errors import InputError

from .lk import assert_refused, in_a_process, lesionkit


def test_version():
    assert lesionkit("--version") == (0, f"lesionkit {package.__version__}\n", "")


def test_help_lists_the_verbs_and_is_light():
    code = (
        "import sys;"
        "from lesionkit.cli.main import main; main(['--help']);"
        "heavy = {'torchvision', 'scipy', 'PIL', 'pydicom', 'SimpleITK', 'lightning_fabric'};"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for verb in ("demo", "synth", "train", "tables", "detect", "export", "doctor"):
        assert f"\n  {verb} " in done.stdout


def test_no_arguments_give_the_help():
    assert lesionkit() == lesionkit("--help")


@pytest.mark.parametrize(
    "arguments,words",
    [
        (["synth", "--out", ""], ["--out", "must name a folder"]),
        (["demo", "--out", " "], ["--out", "must name a folder"]),
        (["nonsense"], ["nonsense"]),
        (["--nonsense"], ["--nonsense"]),
        (["detect", "scan", "--out", "x"], ["--weights"]),
        (["synth"], ["--out"]),
        (["synth", "--out", "x", "--patients", "many"], ["--patients"]),
        (["doctor", "extra"], ["extra"]),
    ],
)
def test_wrong_arguments(arguments, words):
    assert_refused(lesionkit(*arguments), *words)


def test_exit_code_of_the_process(tmp_path):
    done = in_a_process("train", "--out", "x", "--data", "none", cwd=tmp_path)
    assert_refused((done.returncode, done.stdout, done.stderr), "none", "not a folder")
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    "error,code,line",
    [
        (InputError("a.dcm: is\nbroken"), 2, "a.dcm: is broken"),
        (PermissionError(13, "Permission denied", "/out"), 2, "Permission denied: '/out'"),
        (FloatingPointError("diverged at step 3"), 1, "diverged at step 3"),
        (ModuleNotFoundError("No module", name="pydicom"), 2, 'pip install "lesionkit[detect]"'),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
def test_errors_become_one_line(monkeypatch, capsys, error, code, line):
    def fail():
        raise error

    monkeypatch.setattr(module, "_command", fail)
    assert module.main([]) == code
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1
    assert captured.err.startswith("lesionkit: error: ")
    assert line in captured.err
    assert captured.out == ""


def test_unknown_backend_in_the_environment(tmp_path):
    done = in_a_process("doctor", cwd=tmp_path, LESIONKIT_BACKEND="fast")
    assert_refused((done.returncode, done.stdout, done.stderr), "LESIONKIT_BACKEND", "fast", "cpu")


@pytest.mark.parametrize("verb", ["doctor", "detect"])
def test_unknown_instruction_set_in_the_environment(tmp_path, verb):
    if "cpu" not in package.available_backends():
        pytest.skip("the CPU library is not built")
    done = in_a_process(verb, cwd=tmp_path, LESIONKIT_CPU_ISA="foo")
    assert_refused((done.returncode, done.stdout, done.stderr), "LESIONKIT_CPU_ISA", "foo")


def test_backend_that_cannot_run(tmp_path, monkeypatch):
    from lesionkit.ops import backends

    def refuse(*_):
        raise RuntimeError("backend 'triton' cannot run on cpu tensors: no interpreter")

    monkeypatch.setattr(backends, "resolve", refuse)
    assert_refused(
        lesionkit("demo", "--out", tmp_path / "out", "--device", "cpu"), "--device cpu", "triton"
    )
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("redirect", ["| true", ">&-"])
def test_nobody_reads_the_output(redirect):
    command = f"set -o pipefail; {sys.executable} -m lesionkit --help {redirect}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert (done.returncode in (0, 1), done.stderr) == (True, "")


def test_faults_of_the_program_are_not_hidden(monkeypatch):
    def fail():
        raise ZeroDivisionError

    monkeypatch.setattr(module, "_command", fail)
    with pytest.raises(ZeroDivisionError):
        module.main([])
