"""The command `onecode`. Every error ends it with one line and the exit code of its branch, never with a traceback."""

from __future__ import annotations

import sys
from typing import Any

import click

import onecode
from onecode.cli import (  # noqa: F401 # their commands join those of `merchant`, `network` and `platform`
    merchant_keys,
    network_governance,
    network_running,
    platform_operator,
)
from onecode.cli.audit import audit
from onecode.cli.code import code
from onecode.cli.console import EXIT_INTERRUPTED, EXIT_UNEXPECTED, Console, OnecodeGroup
from onecode.cli.demo.command import demo
from onecode.cli.inspect import inspect
from onecode.cli.merchant import merchant
from onecode.cli.network import network
from onecode.cli.node import node
from onecode.cli.platform import platform
from onecode.cli.up import up
from onecode.cli.verify import verify
from onecode.cli.wallet import wallet
from onecode.errors import OnecodeError


class RootGroup(OnecodeGroup):
    """Turns errors into exit codes: 0 done, 2 to 6 the branches of errors.py, 70 unexpected, 130 interrupted."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        kwargs["standalone_mode"] = False
        console = Console()
        try:
            code = super().main(*args, **kwargs, obj=console)
        except OnecodeError as error:
            console.fail(error)
            sys.exit(error.exit_code)
        except click.ClickException as error:
            error.show()
            sys.exit(error.exit_code)
        except (click.Abort, KeyboardInterrupt):
            click.echo("interrupted", err=True)
            sys.exit(EXIT_INTERRUPTED)
        except Exception as error:
            console.fail_unexpected(error)
            sys.exit(EXIT_UNEXPECTED)
        sys.exit(code if isinstance(code, int) else 0)


@click.group(cls=RootGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(onecode.__version__, prog_name="onecode")
def cli() -> None:
    """Print one QR once; any payment platform can start accepting it later."""


code.add_command(inspect)
for command in (demo, up, code, merchant, platform, wallet, verify, audit, node, network):
    cli.add_command(command)


def main() -> int:
    """Entry point of the installed command."""
    cli()
    return 0
