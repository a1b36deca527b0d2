"""Running the command line in tests: in this process, or as users do."""

import contextlib
import io
import os
import subprocess
import sys

from lesionkit.cli.main import main


def lesionkit(*arguments: object) -> tuple[int, str, str]:
    """Exit code, standard output and standard error."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main([str(argument) for argument in arguments])
    return code, out.getvalue(), err.getvalue()


def in_a_process(
    *arguments: object, cwd: object = None, **environment: str
) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "lesionkit", *map(str, arguments)]
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        cwd=cwd,
        timeout=300,
        env={**os.environ, **environment},
    )


def assert_refused(result: tuple[int, str, str], *words: str) -> None:
    """Exit code 2, nothing on standard output, and one line that has all of ``words``."""
    code, out, err = result
    assert code == 2
    assert out == ""
    lines = [line for line in err.splitlines() if not line.endswith("...")]  # progress begins so
    assert len(lines) == 1, err
    assert lines[0].startswith("lesionkit: error: ")
    for word in words:
        assert word in lines[0]


def tree(folder: os.PathLike) -> dict[str, bytes]:
    """Every file under a folder: relative path to content."""
    found = {}
    for parent, _, names in os.walk(folder):
        for name in names:
            path = os.path.join(parent, name)
            with open(path, "rb") as stream:
                found[os.path.relpath(path, folder)] = stream.read()
    return found
