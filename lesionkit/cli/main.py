"""The command line: ``lesionkit VERB``, also ``python -m lesionkit VERB``.

The modules of this package import only what is light; each verb loads the rest when it runs.
"""

import os
import signal
import sys
import threading
import time
from collections.abc import Sequence

from lesionkit.errors import InputError
from lesionkit.version import __version__

EXTRAS = 'pip install "lesionkit[detect]"'


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code.

    0, 1 on failure, 2 on bad input, 130 on Ctrl-C, 143 when asked to end (SIGTERM).
    """
    asked_to_end = []

    def ignore(*_: object) -> None:  # with SIG_IGN, Python would report one already under way
        pass

    def end(*_: object) -> None:
        # Who ends a process and its group sends two at once. A later one is meant to hurry.
        if asked_to_end and time.monotonic() - asked_to_end[-1] < 5:
            return
        asked_to_end.append(time.monotonic())
        # Workers may have been asked too, and PyTorch's handler would call that a fault.
        signal.signal(signal.SIGCHLD, ignore)
        raise KeyboardInterrupt

    is_main_thread = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGTERM, end) if is_main_thread else None
    try:
        return _run(sys.argv[1:] if arguments is None else list(arguments))
    except BaseException as error:
        if asked_to_end:  # whatever came of it: workers may have ended first
            return _fail(error, 143, "terminated")
        return _explain(error)
    finally:
        if is_main_thread:
            signal.signal(signal.SIGTERM, before)


def _explain(error: BaseException) -> int:
    """One line about an error and its exit code; a fault of the program is raised again."""
    if isinstance(error, KeyboardInterrupt):
        return _fail(error, 130, "interrupted")
    if isinstance(error, BrokenPipeError):  # whoever reads the output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    if isinstance(error, InputError | OSError):
        return _fail(error, 2)
    if isinstance(error, ModuleNotFoundError):
        needed = f"needs the package {error.name}, which is not installed; {EXTRAS}"
        return _fail(error, 2, needed)
    if isinstance(error, FloatingPointError):
        return _fail(error, 1)
    if hasattr(error, "format_message"):  # what Typer raises on wrong options
        return _fail(error, 2, error.format_message())
    raise error


def _run(arguments: list[str]) -> int:
    import typer

    if hasattr(sys.stdout, "reconfigure"):  # names of files may be no text
        sys.stdout.reconfigure(errors="backslashreplace")
    _check_environment()
    command = _command()
    try:
        # Not command.main: it has its own ideas of Ctrl-C, which differ from version to version.
        with command.make_context("lesionkit", arguments or ["--help"]) as context:
            code = command.invoke(context) or 0
    except typer.Exit as done:
        code = done.exit_code
    if sys.stdout is not None:
        sys.stdout.flush()  # here, where a closed pipe is no fault
    return code


def _check_environment() -> None:
    """Raise InputError for a variable that no op could run with."""
    if "LESIONKIT_BACKEND" in os.environ:
        try:
            import lesionkit.ops  # noqa: F401
        except ValueError as error:
            raise InputError(f"LESIONKIT_BACKEND: {error}") from None
    if "LESIONKIT_CPU_ISA" in os.environ:
        import torch

        from lesionkit.ops import backends

        try:
            if backends.has_library():
                torch.ops.lesionkit.cpu_instruction_set()
        except RuntimeError as error:
            raise InputError(str(error)) from None


def _command():
    import typer

    from lesionkit.cli import (
        data,
        demo,
        detect,
        doctor,
        eval,
        export,
        froc,
        report,
        synth,
        tables,
        train,
        view,
    )

    app = typer.Typer(
        name="lesionkit",
        help="Find lesions in CT scans with 3DCE_CS_Att.",
        no_args_is_help=False,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    )

    def show_version(wanted: bool) -> None:
        if wanted:
            print(f"lesionkit {__version__}")
            raise typer.Exit

    @app.callback()
    def options(
        version: bool = typer.Option(
            False, "--version", callback=show_version, is_eager=True, help="Show it and exit."
        ),
    ) -> None:
        pass

    for verb in (
        *(demo.demo, synth.synth, train.train, eval.eval, froc.froc, tables.tables),
        *(detect.detect, report.report, export.export, doctor.doctor),
    ):
        app.command()(verb)
    app.add_typer(data.app)
    app.add_typer(view.app)
    return typer.main.get_command(app)


def _fail(error: BaseException, code: int, message: str | None = None) -> int:
    notes = getattr(error, "__notes__", ())  # such as where an unfinished result is
    line = " ".join("; ".join([message or str(error), *notes]).split())
    print(f"lesionkit: error: {line}", file=sys.stderr)
    return code
