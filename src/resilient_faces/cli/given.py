"""What was given on the command line, looked at where click does not: each error names the option as it was written."""

from __future__ import annotations

import errno
import math
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import click

_TAKEN: Final = (errno.EADDRINUSE, errno.EACCES)


def region(context: click.Context, option: click.Parameter, value: str) -> str:
    """For click's `callback`: a region, as the SDK takes it."""
    import click

    from resilient_faces.adapters._aws_clients import is_region

    if not is_region(value):
        raise click.BadParameter(f"must be the name of a region, such as us-west-2; got {value!r}.", context, option)
    return value


def host(context: click.Context, option: click.Parameter, value: str | None) -> str | None:
    """For click's `callback`: an address; an empty one, as of a variable that is not set, would mean all of them."""
    import click

    if value is not None and not value.strip():
        text = f"must be an address of this machine, such as 127.0.0.1; got {value!r}. 0.0.0.0 listens on all of them."
        raise click.BadParameter(text, context, option)
    return value


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
