"""`resilient-faces rekognition`: a Rekognition-compatible endpoint on this machine."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING, Final

from resilient_faces.cli import given
from resilient_faces.cli.codes import MISSING, OK, USAGE
from resilient_faces.errors import MissingExtraError, OptionError

if TYPE_CHECKING:
    import click

    from resilient_faces.adapters.local_rekognition import Ledger, Objects, Quotas, RekognitionServer

SCHEMA: Final = 1
_LOOPBACK: Final = ("127.", "::1", "localhost")


def command() -> click.Command:
    """The subcommand `rekognition`."""
    import click

    @click.command(short_help="Serve a Rekognition-compatible endpoint on this machine.")
    @click.option(
        "--host", default="127.0.0.1", show_default=True, callback=given.host, help="IPv4 address to listen on."
    )
    @click.option(
        "--port", type=click.IntRange(0, 65535), default=8091, show_default=True, help="0 takes a free one and says it."
    )
    @click.option(
        "--data",
        type=given.path(file_okay=False),
        metavar="DIR",
        help="Keep collections and faces here; made if absent.  [default: in memory]",
    )
    @click.option(
        "--engine",
        type=click.Choice(["basic", "insightface"]),
        default=None,
        help="Who looks for faces.  [default: insightface if --pack is given, else basic]",
    )
    @click.option(
        "--pack",
        type=given.path(file_okay=False),
        metavar="DIR",
        help="Directory with an InsightFace model pack. Nothing is downloaded.",
    )
    @click.option(
        "--region",
        default="us-west-2",
        show_default=True,
        callback=given.region,
        help="For ARNs and the default quotas.",
    )
    @click.option(
        "--tps",
        multiple=True,
        metavar="[OPERATION=]N",
        callback=_rates,
        help="Calls a second, of all operations or of one; can be given several times.  [default: the region's quotas]",
    )
    @click.option("--no-throttling", is_flag=True, help="No limit on calls a second.")
    @click.option(
        "--throttling-error",
        type=click.Choice(["ProvisionedThroughputExceededException", "ThrottlingException"]),
        default="ProvisionedThroughputExceededException",
        show_default=True,
        help="Which of the service's two errors is given above a quota.",
    )
    @click.option(
        "--s3-endpoint",
        metavar="URL",
        callback=given.endpoint,
        help="An S3 on this machine that S3Object images are read from.",
    )
    @click.option(
        "--ledger",
        type=given.path(dir_okay=False),
        metavar="FILE",
        help="Append one JSON line a call; images and people are in it as hashes.",
    )
    @click.option("--json", "as_json", is_flag=True, help="Say where it listens as one JSON line on standard output.")
    def rekognition(
        host: str,
        port: int,
        data: Path | None,
        engine: str | None,
        pack: Path | None,
        region: str,
        tps: dict[str | None, float],
        no_throttling: bool,
        throttling_error: str,
        s3_endpoint: str | None,
        ledger: Path | None,
        as_json: bool,
    ) -> int:
        """Serve a Rekognition-compatible endpoint on this machine, for the AWS CLI and every SDK.

        The engine basic finds frontal faces and knows nobody: its similarities are hints. The engine insightface knows
        people as well as the model pack that you give it. Ends on Ctrl-C or SIGTERM; what it answered is kept.
        """
        from resilient_faces.adapters.insightface import PackError
        from resilient_faces.adapters.local_rekognition import DataDirectoryError, Quotas

        if no_throttling and tps:
            raise click.UsageError("--no-throttling and --tps contradict each other: give one of them.")
        if engine == "insightface" and pack is None:
            raise click.UsageError("--engine insightface needs --pack DIR, a model pack. Nothing is downloaded.")
        if engine == "basic" and pack is not None:
            raise click.UsageError(
                "--pack must be left out with --engine basic, which has no model. Or take --engine insightface."
            )
        everywhere = float("inf") if no_throttling else tps.pop(None, None)
        rates = {operation: rate for operation, rate in tps.items() if operation is not None}
        try:
            server = _server(
                host=host,
                port=port,
                data=data,
                engine=engine,
                pack=pack,
                region=region,
                quotas=Quotas(region, rates=rates, everywhere=everywhere, error=throttling_error),
                objects=None if s3_endpoint is None else _objects(s3_endpoint, region),
                ledger=ledger,
            )
        except OptionError as error:
            _say(str(error))
            return USAGE
        except DataDirectoryError as error:
            _say(f"--data: {error}")
            return USAGE
        except PackError as error:
            _say(f"--pack: {error}")
            return MISSING
        except MissingExtraError as error:
            _say(str(error))
            return MISSING
        except OSError as error:
            _say(given.not_listened(host, port, error, "an IPv4 address"))
            return USAGE
        return _serve(server, data, region, as_json=as_json)

    return rekognition


def _rates(context: click.Context, option: click.Parameter, texts: tuple[str, ...]) -> dict[str | None, float]:
    """For click's `callback`: calls a second by operation, and under None those of all others."""
    import difflib

    import click

    from resilient_faces.adapters.local_rekognition.quotas import LIMITED

    rates: dict[str | None, float] = {}
    for text in texts:
        operation, parted, number = text.rpartition("=")
        try:
            rate = float(number)
        except ValueError:
            raise click.BadParameter(f"must be a number, or OPERATION=number; got {text!r}.", context, option) from None
        if parted and operation not in LIMITED:
            near = difflib.get_close_matches(operation, LIMITED, n=1)
            meant = f" Did you mean {near[0]}?" if near else f" It has: {', '.join(LIMITED)}."
            raise click.BadParameter(f"the endpoint has no operation {operation!r}.{meant}", context, option)
        if not rate > 0:
            rule = f"must be more than 0 calls a second; got {text!r}. --no-throttling sets no limit."
            raise click.BadParameter(rule, context, option)
        rates[operation if parted else None] = rate
    return rates


def _objects(endpoint: str, region: str) -> Objects:
    """Gets S3 objects from an endpoint on this machine, never from AWS."""
    from resilient_faces.adapters.aws import LocalEndpoint, connect
    from resilient_faces.adapters.local_rekognition import MAX_OBJECT_BYTES, ServiceError

    s3 = connect("s3", region=region, endpoint=LocalEndpoint(endpoint))

    def get(bucket: str, name: str, version: str | None) -> bytes:
        answer = s3.get_object(Bucket=bucket, Key=name, **({} if version is None else {"VersionId": version}))
        with answer["Body"] as body:
            if int(answer["ContentLength"]) > MAX_OBJECT_BYTES:
                raise ServiceError("ImageTooLargeException", "Image size is too large")
            data: bytes = body.read()
        return data

    return get


def _server(
    *,
    host: str,
    port: int,
    data: Path | None,
    engine: str | None,
    pack: Path | None,
    region: str,
    quotas: Quotas,
    objects: Objects | None,
    ledger: Path | None,
) -> RekognitionServer:
    from resilient_faces.adapters.local_rekognition import (
        MODEL_VERSION,
        RekognitionServer,
        RekognitionService,
        Storage,
    )
    from resilient_faces.adapters.recogniser import choose

    chosen = choose(engine, pack=pack)
    with ExitStack() as opened:
        storage = opened.enter_context(closing(Storage(data, space=chosen.space, version=MODEL_VERSION)))
        service = RekognitionService(
            chosen,
            storage=storage,
            region=region,
            quotas=quotas,
            objects=objects,
            ledger=opened.enter_context(closing(_ledger(ledger))),
        )
        service.warm_up()
        server = RekognitionServer(service, host=host, port=port)
        opened.pop_all()  # they are the server's now
        return server


def _ledger(file: Path | None) -> Ledger:
    from resilient_faces.adapters.local_rekognition import Ledger

    try:
        return Ledger(file)
    except OSError as error:
        raise OptionError(
            f"--ledger {file} cannot be written: {error.strerror}. "
            "Name a file in a directory that is there, and that you may write to."
        ) from None


def _serve(server: RekognitionServer, data: Path | None, region: str, *, as_json: bool) -> int:
    over = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: over.set())
    server.start()
    if as_json:
        where = None if data is None else str(data.absolute())
        hello = {"schema": SCHEMA, "url": server.url, "host": server.server_name, "port": server.server_port}
        hello |= {"pid": os.getpid(), "region": region, "data": where, **server.about}
        sys.stdout.write(json.dumps(hello) + "\n")
    else:
        kept = "in memory" if data is None else f"in {data}"
        sys.stdout.write(
            f"Rekognition-compatible endpoint on {server.url}, region {region}, engine {server.about['engine']}, "
            f"faces kept {kept}.\nTry: aws --endpoint-url {server.url} rekognition list-collections\n"
        )
    sys.stdout.flush()
    if server.about["similarity"] == "hint":
        _say("This engine knows nobody: Similarity is a hint about the picture, not about the person.")
    if not server.server_name.startswith(_LOOPBACK):
        _say(f"Listening on {server.server_name}: whoever reaches this address can read and change everything.")
    while not over.wait(0.5):  # with a limit: on Windows a wait without one hears no signal
        pass
    if not server.stop():
        _say("Some requests were still under way and are cut off; what was answered is kept.")
    return OK


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")
    sys.stderr.flush()
