"""The group of all verbs, and what becomes of their errors: one line on stderr and an exit code."""

from __future__ import annotations

import importlib
import sys
import traceback
from collections.abc import Sequence
from typing import Any, NoReturn

import click

from detrojan.console.defaults import defaults_for
from detrojan.console.state import State
from detrojan.console.streams import full, let_go, settle_streams
from detrojan.errors import DetrojanError

#: exit codes beside those that a verb gives itself
ERROR, USAGE, INTERRUPTED = 2, 4, 130
#: each verb's module in this package, in the order of a first acquaintance
VERBS = {
    "demo": "demo",
    "scan": "scan",
    "check": "check",
    "verify": "verify",
    "fleet": "fleet",
    "repair": "repair",
    "evaluate": "evaluate",
    "attack": "attack",
    "baseline": "baseline",
    "filter": "filter",
    "train": "train",
    "predict": "predict",
    "guard": "guard",
    "serve": "serve",
    "bench": "bench",
    "list": "listing",
}


class Verbs(click.Group):
    """Finds each verb in its own module, and turns errors into a line and an exit code."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the verbs."""
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a verb; its module is imported now, what it works with only when it runs."""
        if cmd_name not in VERBS:
            return None
        command: click.Command = importlib.import_module(f"detrojan.cli.{VERBS[cmd_name]}").command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the verb, and what files say of its options."""
        name, verb, rest = super().resolve_command(ctx, args)
        if name is not None and verb is not None:
            said = defaults_for(name, verb, rest, list(VERBS))
            ctx.default_map = {name: dict(said.values)}
            ctx.obj.command.extend(said.words)
            ctx.obj.defaults = said.files
        return name, verb, rest

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        """Remember the words of the call, for the report."""
        return super().make_context(info_name, args, parent, obj=State(["detrojan", *args]), **extra)

    def main(self, args: Sequence[str] | None = None, prog_name: str | None = None, **extra: Any) -> Any:  # type: ignore[override]
        """Run one call; the process ends with the verb's exit code."""
        if not extra.pop("standalone_mode", True):
            return super().main(args, prog_name, standalone_mode=False, **extra)
        settle_streams()
        try:
            code = super().main(args, prog_name, standalone_mode=False, **extra)
        except click.ClickException as error:
            error.show()
            code = USAGE if isinstance(error, click.UsageError) else ERROR
        except click.Abort:
            code = INTERRUPTED
        except OSError as error:  # of a help text: what verbs raise is told by `invoke`
            if not (said := full(error)):
                raise
            click.echo(f"error: {said}", err=True)
            code = ERROR
        if (said := let_go()) and code != ERROR:
            click.echo(f"error: {said}", err=True)
            code = ERROR
        sys.exit(code if isinstance(code, int) else 0)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the verb; what it raises becomes a line on stderr."""
        try:
            return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except KeyboardInterrupt:
            _stop(ctx.obj, _interrupted(ctx.obj), INTERRUPTED)
        except DetrojanError as error:
            _stop(ctx.obj, f"error: {error}", error.exit_code)
        except Exception as error:  # noqa: BLE001 - the last resort: no traceback reaches a user
            if isinstance(error, OSError) and (said := full(error)):
                _stop(ctx.obj, f"error: {said}", ERROR)
            text = f"{type(error).__name__}: {error}".strip().partition("\n")[0]
            hint = "" if ctx.obj.debug else "; --debug shows where"
            report = "this is a fault of detrojan: report it to the project's issue tracker with the log"
            _stop(ctx.obj, f"internal error: {text}{hint}; {report}", ERROR)


def _stop(state: State, text: str, code: int) -> NoReturn:
    if state.debug:
        click.echo(traceback.format_exc(), err=True)
    state.note(text)
    raise click.exceptions.Exit(code)


def _interrupted(state: State) -> str:
    if state.checkpoint is None or not any(state.checkpoint.glob("*.safetensors")):
        return "interrupted; nothing was saved"
    return (
        f"interrupted; what was computed is saved in {state.checkpoint}: "
        "run the same command with --resume to continue"
    )


@click.group(
    cls=Verbs,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="\b\nExample:\n  detrojan scan model.h5 --net deepid --data faces.npz --json scan.json",
)
@click.version_option(package_name="detrojan")
def main() -> None:
    """Find backdoors in neural networks, explain them, and repair the networks.

    Exit codes: 0 done, or no evidence; 1 backdoor found, or not repaired; 2 error; 3 inconclusive;
    4 wrong usage; 130 interrupted.
    """
