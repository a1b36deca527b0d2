"""The command line: ``lesionkit VERB``, also ``python -m lesionkit VERB``.

The modules of this package import only what is light; each verb loads the rest when it runs.
"""

import sys
from collections.abc import Sequence

from lesionkit.errors import InputError
from lesionkit.version import __version__

EXTRAS = 'pip install "lesionkit[detect]"'


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code: 0, 1 on failure, 2 on bad input."""
    try:
        return _command()(arguments, prog_name="lesionkit", standalone_mode=False) or 0
    except KeyboardInterrupt:
        return _fail("interrupted", 130)
    except (InputError, OSError) as error:
        return _fail(error, 2)
    except ModuleNotFoundError as error:
        return _fail(f"needs the package {error.name}, which is not installed; {EXTRAS}", 2)
    except FloatingPointError as error:
        return _fail(error, 1)
    except Exception as error:
        if hasattr(error, "format_message"):  # what Typer raises on wrong options
            return _fail(error.format_message(), 2)
        if type(error).__name__ != "Abort":  # what Typer makes of Ctrl-C
            raise
        return _fail("interrupted", 130)


def _command():
    import typer

    from lesionkit.cli import demo, detect, doctor, synth, train

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

    for verb in (demo.demo, synth.synth, train.train, detect.detect, doctor.doctor):
        app.command()(verb)
    return typer.main.get_command(app)


def _fail(message: object, code: int) -> int:
    line = " ".join(str(message).split())
    print(f"lesionkit: error: {line}", file=sys.stderr)
    return code
