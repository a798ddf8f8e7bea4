"""What was given on the command line, looked at where click does not: each error names the option as it was written."""

from __future__ import annotations

import errno
import math
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from resilient_faces.errors import OptionError

if TYPE_CHECKING:
    import click

_QUEUE: Final = re.compile(r"[a-zA-Z0-9_-]{1,80}(\.fifo)?")
_ADDRESS: Final = re.compile(r"https?://[^/@?#\s]+/[^@?#\s]*[^/@?#\s]")
_TAKEN: Final = (errno.EADDRINUSE, errno.EACCES)


def region(context: click.Context, option: click.Parameter, value: str) -> str:
    """For click's `callback`: a region, as the SDK takes it."""
    import click

    from resilient_faces.adapters._aws_clients import is_region

    if not is_region(value):
        raise click.BadParameter(f"must be the name of a region, such as us-west-2; got {value!r}.", context, option)
    return value


def endpoint(context: click.Context, option: click.Parameter, value: str | None) -> str | None:
    """For click's `callback`: the address of a server; what is none is not shown, since it may hold a password."""
    import click

    from resilient_faces.adapters.aws import LocalEndpoint

    if value is not None:
        try:
            LocalEndpoint(value)
        except OptionError:
            text = (
                "must be an address such as http://127.0.0.1:8091, without a user and a password. "
                "What was given is not shown, since it may hold one."
            )
            raise click.BadParameter(text, context, option) from None
    return value


def queue(context: click.Context, option: click.Parameter, value: str) -> str:
    """For click's `callback`: a queue of SQS. Addresses hold the account, so only names are shown."""
    import click

    if "://" in value:
        good, shown = _ADDRESS.fullmatch(value) is not None, "another address"
    else:
        good, shown = _QUEUE.fullmatch(value) is not None, "an ARN" if value.startswith("arn:") else f"{value[:80]!r}"
    if not good:
        raise click.BadParameter(f"must be the name or the URL of a queue; got {shown}.", context, option)
    return value


def host(context: click.Context, option: click.Parameter, value: str | None) -> str | None:
    """For click's `callback`: an address; an empty one, as of a variable that is not set, would mean all of them."""
    import click

    if value is not None and not value.strip():
        text = f"must be an address of this machine, such as 127.0.0.1; got {value!r}. 0.0.0.0 listens on all of them."
        raise click.BadParameter(text, context, option)
    return value


def path(**options: Any) -> click.Path:
    """A type as `click.Path`, of which an empty text, as of a variable that is not set, is none: not this directory."""
    import click

    class Given(click.Path):
        def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
            if not os.fspath(value):
                self.fail("must be a path; got ''. Leave the option out to do without.", param, ctx)
            return super().convert(value, param, ctx)

    return Given(path_type=Path, **options)


def number(context: click.Context, option: click.Parameter, value: float | None) -> float | None:
    """For click's `callback`: what is no number lies in every of its ranges."""
    import click

    if value is not None and math.isnan(value):
        raise click.BadParameter("must be a number; got nan.", context, option)
    return value


def not_listened(host: str, port: int, error: OSError, kind: str = "an address") -> str:
    """What to say of an address that cannot be listened on; only sometimes another port would be one that can."""
    cure = "Take another port, or 0." if error.errno in _TAKEN else f"Give --host {kind} of this machine."
    return f"--host {host} --port {port} cannot be listened on: {error.strerror or error}. {cure}"
