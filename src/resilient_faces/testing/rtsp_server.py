"""RTSP cameras to test against: a server with switches for what real cameras do wrong.

    server = RtspServer()
    camera = server.add("/door", encode(moving_blocks(20)), password="secret")
    with server:
        ...                                  # read server.url("/door")
        camera.fault = Fault.frozen          # and see what the client makes of it

Clips are H.264, encoded beforehand and played in a loop in real time, so that fifty cameras cost little. Packets go
over the client's own connection (interleaved) or over UDP. Every frame may carry its number as a row of black and white
blocks that survives encoding (`stamp`, `read_stamp`), so that a client can tell how old what it sees is.

`RtspProcess` is the same server in a process of its own, which can be stopped and killed as a whole, and `BlackHole` an
address that never answers. Needs the extra `rtsp`, for the encoder.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import hashlib
import json
import os
import random
import secrets
import signal
import socket
import struct
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from enum import Enum
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from resilient_faces.adapters._faces import load
from resilient_faces.testing.children import Child, python_module

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Image = NDArray[Any]
else:
    Image = Any

__all__ = [
    "BlackHole",
    "Clip",
    "Fault",
    "RtspProcess",
    "RtspServer",
    "ServedCamera",
    "encode",
    "moving_blocks",
    "moving_cards",
    "read_stamp",
    "stamp",
]

_PAYLOAD: Final = 1400  # bytes of a NAL unit that go into one packet
_TYPE: Final = 96  # of the payload, as the description says
_CLOCK: Final = 90_000  # RTP ticks a second
_DRIP: Final = 0.5  # seconds between two bytes, or two reports
_BITS: Final = 16
_REALM: Final = "cameras"


class Fault(str, Enum):
    """What a served camera does wrong; switched while clients watch."""

    none = "none"
    frozen = "frozen"  # not a byte more, on connections that stay open
    drip = "drip"  # one byte in half a second, never a whole packet
    reports_only = "reports_only"  # RTCP, no video
    still = "still"  # packets go on, the picture does not change
    corrupt = "corrupt"  # every packet is damaged
    lossy = "lossy"  # one packet in 50 is lost
    backwards = "backwards"  # timestamps jump back by ten seconds, once a second
    silent = "silent"  # takes connections, answers no request
    no_picture = "no_picture"  # agrees to play, and sends nothing
    unauthorised = "unauthorised"  # 401, whatever the client says
    missing = "missing"  # 404
    broken = "broken"  # 503
    brief = "brief"  # hangs up after the first second of video


# -- clips ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Clip:
    """A piece of H.264 video to play in a loop.

    Attributes:
        frames: NAL units of each frame, without start codes; the first frame is a key frame.
        keys: Which frames are key frames.
        rate: Frames a second.
    """

    frames: tuple[tuple[bytes, ...], ...] = field(repr=False)
    keys: tuple[bool, ...] = field(repr=False)
    rate: float

    def parameters(self, kind: int) -> bytes:
        """The parameter set of this NAL type: 7 sequence, 8 picture."""
        return next(unit for unit in self.frames[0] if unit[0] & 31 == kind)


def encode(images: Iterable[Image], *, rate: float = 10.0, gop: int = 10) -> Clip:
    """Encode images as a clip.

    Args:
        images: uint8 arrays of shape (height, width, 3), BGR, all of the same even size.
        rate: Frames a second.
        gop: Frames from one key frame to the next.

    Raises:
        MissingExtraError: The extra `rtsp` is not installed.
    """
    av = load("av", "rtsp")
    coder: Any = None
    packets: list[Any] = []
    for number, image in enumerate(images):
        if coder is None:
            coder = av.CodecContext.create("libx264", "w")
            coder.height, coder.width = image.shape[:2]
            coder.pix_fmt, coder.gop_size, coder.max_b_frames = "yuv420p", gop, 0
            coder.framerate = Fraction(rate).limit_denominator(1000)
            coder.time_base = 1 / coder.framerate
            coder.options = {"preset": "veryfast", "tune": "zerolatency", "x264-params": "scenecut=0"}
        frame = av.VideoFrame.from_ndarray(image, format="bgr24")
        frame.pts = number
        packets += coder.encode(frame)
    if coder is None:
        raise ValueError("encode.images must hold at least one image; got none.")
    packets += coder.encode(None)
    return Clip(
        tuple(tuple(_units(bytes(packet))) for packet in packets), tuple(bool(p.is_keyframe) for p in packets), rate
    )


def _units(stream: bytes) -> Iterator[bytes]:
    """NAL units between start codes."""
    for piece in stream.split(b"\0\0\1"):
        unit = piece.rstrip(b"\0")
        if unit:
            yield unit


def stamp(image: Image, number: int) -> Image:
    """Draw the number's 16 lowest bits along the upper edge, in place."""
    side = image.shape[1] // (_BITS + 2)
    image[: 2 * side] = 0
    for bit in range(_BITS):
        shade = 255 if number >> bit & 1 else 0
        image[: 2 * side, (bit + 1) * side : (bit + 2) * side] = shade
    return image


def read_stamp(image: Image) -> int:
    """The number that was drawn."""
    side = image.shape[1] // (_BITS + 2)
    middle = [(bit + 1) * side + side // 2 for bit in range(_BITS)]
    return sum(int(image[side // 2 : side + side // 2, x].mean() > 127) << bit for bit, x in enumerate(middle))


def moving_blocks(count: int, *, width: int = 160, height: int = 120) -> Iterator[Image]:
    """Images of a bright square that wanders, each stamped with its number."""
    numpy = load("numpy", "rtsp")
    side = height // 4
    for number in range(count):
        image = numpy.full((height, width, 3), 90, numpy.uint8)
        left = (width - side) * number // count
        image[height // 2 : height // 2 + side, left : left + side] = (40, 160, 230)
        yield stamp(image, number)


def moving_cards(
    count: int, identities: tuple[int, ...] = (1,), *, width: int = 320, height: int = 180, side: int = 100
) -> Iterator[Image]:
    """Images of cards that wander (`testing.card_pack`): there and back once in `count` images, so that they loop."""
    from resilient_faces.testing.card_pack import Placed, scene

    lane = width // len(identities)
    for number in range(count):
        way = abs(2 * number - count) / count
        placed = [
            Placed(one, (lane * place + round((lane - side) * way), (height - side) // 2), side)
            for place, one in enumerate(identities)
        ]
        yield scene(placed, width=width, height=height)


# -- the server ----------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class ServedCamera:
    """One camera of a server. `fault` may be set at any time, from any thread.

    Attributes:
        path: Where it is, from the slash on.
        clip: What it shows.
        user: Who may watch it.
        password: With which password; None lets everybody watch.
        digest: Ask for digest rather than basic authentication.
        udp: Offer UDP; `tcp=False` then offers nothing else.
        tcp: Offer interleaved packets.
        described: Name the parameter sets in the description; without, they come with the first key frame.
        most_clients: More are told to play and then get nothing, as cameras do.
        fault: What it does wrong.
        clients: How many are playing.
        plays: How often somebody began to.
        sent: Monotonic time at which each frame number of the clip was last sent.
    """

    path: str
    clip: Clip = field(repr=False)
    user: str = "viewer"
    password: str | None = field(default=None, repr=False)
    digest: bool = False
    tcp: bool = True
    udp: bool = False
    described: bool = True
    most_clients: int = 1000
    fault: Fault = Fault.none
    clients: int = 0
    plays: int = 0
    sent: dict[int, float] = field(default_factory=dict, repr=False)
    epoch: float = field(default_factory=time.monotonic, repr=False)
    last_words: deque[str] = field(default_factory=lambda: deque(maxlen=50), repr=False)


class RtspServer:
    """A server of cameras, on a thread of its own.

    Args:
        port: Where to listen on 127.0.0.1; 0 takes a free one, which then stays the same over restarts.

    Attributes:
        port: Where it listens.
        cameras: By path.
    """

    def __init__(self, port: int = 0) -> None:
        self.port = port
        self.cameras: dict[str, ServedCamera] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._end: asyncio.Event | None = None
        self.watching: dict[asyncio.StreamWriter, str] = {}

    def add(self, path: str, clip: Clip, **options: Any) -> ServedCamera:
        """Serve one more camera; `options` are attributes of `ServedCamera`."""
        camera = self.cameras[path] = ServedCamera(path, clip, **options)
        return camera

    def url(self, path: str, *, user: str | None = None, password: str | None = None) -> str:
        """The camera's address, with its own user and password unless others are given."""
        camera = self.cameras.get(path)
        if camera is not None and camera.password is not None:
            user, password = user or camera.user, password or camera.password
        login = f"{user}:{password}@" if user else ""
        return f"rtsp://{login}127.0.0.1:{self.port}{path}"

    # -- its life --------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to listen; returns once it does."""
        ready: list[BaseException | None] = []
        listening = threading.Event()

        async def main() -> None:
            self._loop = asyncio.get_running_loop()
            self._end = asyncio.Event()
            try:
                server = await self._loop.create_server(
                    lambda: asyncio.StreamReaderProtocol(_Patient(), self._serve), "127.0.0.1", self.port, backlog=200
                )
            except OSError as error:
                ready.append(error)
                listening.set()
                return
            self.port = server.sockets[0].getsockname()[1]
            listening.set()
            await self._end.wait()
            server.close()
            self._reset(None)
            others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)

        self._thread = threading.Thread(target=lambda: asyncio.run(main()), name="rtsp-server", daemon=True)
        self._thread.start()
        listening.wait()
        if ready and ready[0] is not None:
            self._thread.join()
            raise ready[0]

    def stop(self) -> None:
        """Reset all connections and stop listening, as when the power goes; `start` listens on the same port again."""
        if self._loop is not None and self._end is not None and self._thread is not None:
            self._loop.call_soon_threadsafe(self._end.set)
            self._thread.join()
            self._loop = self._thread = None

    def reset(self, path: str | None = None) -> None:
        """Reset the connections to one camera, or all."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._reset, path)

    def _reset(self, path: str | None) -> None:
        for writer, watched in list(self.watching.items()):
            if path is None or watched == path:
                _hang_up(writer)

    def __enter__(self) -> RtspServer:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    # -- one client ------------------------------------------------------------------------------------------------

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.watching[writer] = ""
        client = _Client(self, reader, writer)
        try:
            await client.converse()
        except (OSError, EOFError, ValueError):
            pass  # it hung up, or talks nonsense
        except asyncio.CancelledError:
            pass  # the server ends
        finally:
            client.end()
            self.watching.pop(writer, None)
            writer.transport.abort()


class _Patient(asyncio.StreamReader):
    """Reads to the end what came before a reset: clients say farewell and leave with packets unread."""

    def set_exception(self, exc: BaseException) -> None:
        self.feed_eof()


def _hang_up(writer: asyncio.StreamWriter) -> None:
    """Reset the connection rather than close it."""
    peer = writer.get_extra_info("socket")
    with contextlib.suppress(OSError):
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


_WORDS: Final = {
    200: "OK",
    400: "Bad Request",
    401: "Unauthorized",
    404: "Not Found",
    461: "Unsupported Transport",
    503: "Service Unavailable",
}


class _Client:
    """One connection: requests in, answers and packets out."""

    def __init__(self, server: RtspServer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._server = server
        self._reader = reader
        self._writer = writer
        self._session = secrets.token_hex(4)
        self._nonce = secrets.token_hex(8)
        self._camera: ServedCamera | None = None
        self._sending: asyncio.Task[None] | None = None
        self._send: Callable[[int, bytes], None] = self._interleaved
        self._sockets: list[socket.socket] = []

    async def converse(self) -> None:
        while True:
            first = await self._reader.readexactly(1)
            if first == b"$":  # the client's own reports
                _, length = struct.unpack(">BH", await self._reader.readexactly(3))
                await self._reader.readexactly(length)
                continue
            text = (first + await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            line, *rest = text.strip().split("\r\n")
            method, url, _ = line.split(" ", 2)
            headers = {name.strip().lower(): value.strip() for name, _, value in (one.partition(":") for one in rest)}
            await self._answer(method, url, headers)

    async def _answer(self, method: str, url: str, headers: dict[str, str]) -> None:
        path = "/" + url.partition("://")[2].partition("/")[2].partition("?")[0]
        camera = self._server.cameras.get(path) or self._server.cameras.get(path.rpartition("/")[0])
        if camera is not None:
            self._camera = camera
            self._server.watching[self._writer] = camera.path
            camera.last_words.append(method)
        fault = Fault.none if camera is None else camera.fault
        while fault in {Fault.silent, Fault.frozen}:
            await asyncio.sleep(0.05)
            fault = Fault.none if self._camera is None else self._camera.fault
        status, extra, body = 200, {}, ""
        if method == "OPTIONS":
            extra["Public"] = "OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN"
        elif camera is None or fault is Fault.missing:
            status = 404
        elif fault is Fault.broken:
            status = 503
        elif fault is Fault.unauthorised or not self._admitted(camera, method, url, headers):
            status = 401
            extra["WWW-Authenticate"] = (
                f'Digest realm="{_REALM}", nonce="{self._nonce}"' if camera.digest else f'Basic realm="{_REALM}"'
            )
        elif method == "DESCRIBE":
            body = _description(camera.clip, camera.described)
            extra["Content-Base"] = url.rstrip("/") + "/"
            extra["Content-Type"] = "application/sdp"
        elif method == "SETUP":
            status, extra["Transport"] = self._transport(camera, headers.get("transport", ""))
        lines = [f"RTSP/1.0 {status} {_WORDS[status]}", f"CSeq: {headers.get('cseq', '0')}"]
        lines += [f"Session: {self._session}"] if method in {"SETUP", "PLAY"} else []
        lines += [f"{name}: {value}" for name, value in extra.items()]
        lines += [f"Content-Length: {len(body)}"] if body else []
        self._writer.write(("\r\n".join(lines) + "\r\n\r\n" + body).encode())
        await self._writer.drain()
        if method == "PLAY" and status == 200 and camera is not None and self._sending is None:
            camera.plays += 1
            camera.clients += 1
            self._sending = asyncio.ensure_future(self._play(camera, camera.clients > camera.most_clients))
        elif method == "TEARDOWN":
            raise EOFError

    def _admitted(self, camera: ServedCamera, method: str, url: str, headers: dict[str, str]) -> bool:
        if camera.password is None:
            return True
        scheme, _, given = headers.get("authorization", "").partition(" ")
        if not camera.digest:
            right = base64.b64encode(f"{camera.user}:{camera.password}".encode()).decode()
            return scheme == "Basic" and given == right
        said = {k.strip(): v.strip(' "') for k, _, v in (one.partition("=") for one in given.split(","))}

        def mixed(text: str) -> str:
            return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()

        who = mixed(f"{camera.user}:{_REALM}:{camera.password}")
        what = mixed(f"{method}:{said.get('uri', url)}")
        return scheme == "Digest" and said.get("response") == mixed(f"{who}:{self._nonce}:{what}")

    def _transport(self, camera: ServedCamera, asked: str) -> tuple[int, str]:
        if "interleaved" in asked or "RTP/AVP/TCP" in asked:
            return (200, "RTP/AVP/TCP;unicast;interleaved=0-1") if camera.tcp else (461, "")
        if not camera.udp:
            return 461, ""
        ports = asked.partition("client_port=")[2].partition(";")[0].split("-")
        host = self._writer.get_extra_info("peername")[0]
        self._sockets = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2)]
        for one in self._sockets:
            one.bind(("127.0.0.1", 0))
            one.setblocking(False)
        mine = [one.getsockname()[1] for one in self._sockets]

        def send(channel: int, packet: bytes) -> None:
            with contextlib.suppress(OSError):
                self._sockets[channel].sendto(packet, (host, int(ports[channel])))

        self._send = send
        return 200, f"RTP/AVP;unicast;client_port={ports[0]}-{ports[1]};server_port={mine[0]}-{mine[1]}"

    def _interleaved(self, channel: int, packet: bytes) -> None:
        self._writer.write(struct.pack(">cBH", b"$", channel, len(packet)) + packet)

    def end(self) -> None:
        """What the connection held is given back."""
        if self._sending is not None and self._camera is not None:
            self._sending.cancel()
            self._camera.clients -= 1
        for one in self._sockets:
            one.close()

    # -- its packets -----------------------------------------------------------------------------------------------

    async def _play(self, camera: ServedCamera, crowded: bool) -> None:
        """Send frames at their times, from the next key frame on; wrong in the way the camera is told to be."""
        clip, ssrc = camera.clip, random.getrandbits(32)
        sequence = random.getrandbits(16)
        base = random.getrandbits(31)
        began = time.monotonic()
        started, back = False, 0
        number = int((began - camera.epoch) * clip.rate) + 1
        try:
            while True:
                fault = Fault.no_picture if crowded else camera.fault
                if fault is Fault.drip:
                    self._writer.write(b"$\0\5\xdc"[:1] if not started else b"\0")
                    await asyncio.sleep(_DRIP)
                elif fault is Fault.reports_only:
                    self._send(1, struct.pack(">BBHIIIIII", 0x80, 200, 6, ssrc, 0, 0, 0, 0, 0))
                    await asyncio.sleep(_DRIP)
                late = time.monotonic() - (camera.epoch + number / clip.rate)
                if late < 0:
                    await asyncio.sleep(-late)
                elif late > 1.0:  # a live camera does not send what it missed
                    number = int((time.monotonic() - camera.epoch) * clip.rate) + 1
                    continue
                fault = Fault.no_picture if crowded else camera.fault
                index = number % len(clip.frames)
                number += 1
                if fault in {Fault.frozen, Fault.drip, Fault.reports_only, Fault.no_picture, Fault.silent}:
                    continue
                if fault is Fault.brief and time.monotonic() - began > 1.0:
                    _hang_up(self._writer)
                    return
                if fault is Fault.still:
                    index = 0
                started = started or clip.keys[index]
                if not started:
                    continue
                if fault is Fault.backwards and number % max(1, round(clip.rate)) == 0:
                    back += 10 * _CLOCK
                ticks = (base + round(number * _CLOCK / clip.rate) - back) & 0xFFFFFFFF
                units = clip.frames[index]
                for place, unit in enumerate(units):
                    for payload, last in _packets(unit):
                        marker = 0x80 if last and place == len(units) - 1 else 0
                        head = struct.pack(">BBHII", 0x80, _TYPE | marker, sequence, ticks, ssrc)
                        sequence = (sequence + 1) & 0xFFFF
                        if fault is Fault.lossy and random.random() < 0.02:
                            continue
                        self._send(0, head + (_damaged(payload) if fault is Fault.corrupt else payload))
                camera.sent[index] = time.monotonic()
                await self._writer.drain()
        except OSError:
            pass  # the client hung up; the reading side notices too


def _packets(unit: bytes) -> Iterator[tuple[bytes, bool]]:
    """One NAL unit as payloads (RFC 6184: alone, or in fragments), and whether each is the last."""
    if len(unit) <= _PAYLOAD:
        yield unit, True
        return
    indicator, kind = (unit[0] & 0xE0) | 28, unit[0] & 31
    for start in range(1, len(unit), _PAYLOAD):
        last = start + _PAYLOAD >= len(unit)
        flags = (0x80 if start == 1 else 0) | (0x40 if last else 0)
        yield bytes((indicator, flags | kind)) + unit[start : start + _PAYLOAD], last


def _damaged(payload: bytes) -> bytes:
    """The payload with everything behind its headers replaced by what no decoder makes a picture of."""
    head = 2 if payload[0] & 31 == 28 else 1
    return payload[:head] + (b"\0\1" * len(payload))[: len(payload) - head]  # its first number is above all limits


def _description(clip: Clip, described: bool) -> str:
    sequence, picture = clip.parameters(7), clip.parameters(8)
    sets = ",".join(base64.b64encode(one).decode() for one in (sequence, picture))
    sets = f"; profile-level-id={sequence[1:4].hex()}; sprop-parameter-sets={sets}" if described else ""
    return "".join(
        f"{line}\r\n"
        for line in (
            "v=0",
            "o=- 0 0 IN IP4 127.0.0.1",
            "s=camera",
            "t=0 0",
            "a=control:*",
            f"m=video 0 RTP/AVP {_TYPE}",
            "c=IN IP4 0.0.0.0",
            f"a=rtpmap:{_TYPE} H264/{_CLOCK}",
            f"a=fmtp:{_TYPE} packetization-mode=1{sets}",
            f"a=framerate:{clip.rate:g}",
            "a=control:track1",
        )
    )


# -- addresses that do not answer ----------------------------------------------------------------------------------


class BlackHole:
    """An address at which connections are neither taken nor refused: a listener whose queue is full.

    Attributes:
        port: On 127.0.0.1.
    """

    def __init__(self) -> None:
        self._listener = socket.socket()
        self._listener.bind(("127.0.0.1", 0))
        self._listener.listen(0)
        self.port: int = self._listener.getsockname()[1]
        self._stuck: list[socket.socket] = []
        for _ in range(8):  # the kernel takes one or two more than it was told
            one = socket.socket()
            one.setblocking(False)
            self._stuck.append(one)
            one.connect_ex(("127.0.0.1", self.port))
        time.sleep(0.05)

    def close(self) -> None:
        for one in (*self._stuck, self._listener):
            one.close()

    def __enter__(self) -> BlackHole:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


# -- in a process of its own ---------------------------------------------------------------------------------------


class RtspProcess:
    """A server in a process of its own, with cameras `/cam0`, `/cam1`, ...: it can be stopped and killed as a whole.

    Args:
        folder: For its log.
        cameras: How many.
        width, height, rate, gop, seconds: Of their clip.
        cards: Show cards (camera n shows identity n) rather than blocks.
        first: Identity that camera 0 shows; the others follow.
        password: What clients must give; None for nothing.
        port: Where to listen; 0 takes a free one.

    Attributes:
        port: Where it listens, on 127.0.0.1.
    """

    def __init__(
        self,
        folder: Path,
        *,
        cameras: int = 1,
        width: int = 160,
        height: int = 120,
        rate: float = 10.0,
        gop: int = 10,
        seconds: float = 2.0,
        cards: bool = False,
        first: int = 0,
        password: str | None = None,
        port: int = 0,
    ) -> None:
        self._folder = folder
        self._arguments = [f"--cameras={cameras}", f"--width={width}", f"--height={height}", f"--rate={rate}"]
        self._arguments += [f"--gop={gop}", f"--seconds={seconds}", *(["--cards", f"--first={first}"] if cards else [])]
        self._password = password
        self.port = port
        self._child: Child | None = None
        self.start()

    def start(self) -> None:
        """Start it, or start it again on the same port."""
        self._folder.mkdir(parents=True, exist_ok=True)
        env = {**os.environ, **({} if self._password is None else {"CAMERA_PASSWORD": self._password})}
        self._child = python_module(
            "rtsp-server",
            "resilient_faces.testing.rtsp_server",
            *self._arguments,
            f"--port={self.port}",
            log=self._folder / "rtsp.log",
            env=env,
        )
        self.port = int(self._child.hello["port"])

    def url(self, number: int = 0) -> str:
        """Address of one camera."""
        login = "" if self._password is None else f"viewer:{self._password}@"
        return f"rtsp://{login}127.0.0.1:{self.port}/cam{number}"

    def tell(self, number: int, fault: Fault) -> None:
        """Switch one camera's fault."""
        self._say({"path": f"/cam{number}", "fault": fault.value})

    def reset(self, number: int | None = None) -> None:
        """Reset the connections to one camera, or all."""
        self._say({"reset": None if number is None else f"/cam{number}"})

    def _say(self, command: dict[str, object]) -> None:
        assert self._child is not None
        pipe = self._child.process.stdin
        assert pipe is not None
        pipe.write(json.dumps(command).encode() + b"\n")
        pipe.flush()

    def kill(self) -> None:
        """End it as a power cut would."""
        assert self._child is not None
        self._child.process.kill()
        self._child.process.wait()
        self._child.stop()

    def freeze(self) -> None:
        """Let the whole process hang; connections stay open."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: int) -> None:
        assert self._child is not None
        os.kill(self._child.process.pid, number)

    def stop(self) -> None:
        """End it."""
        if self._child is not None and self._child.running:
            self.thaw()
            self._child.stop(grace=2.0)

    def __enter__(self) -> RtspProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def main(arguments: list[str] | None = None) -> None:
    """Serve until standard input ends; each of its lines is a command."""
    parser = argparse.ArgumentParser(description="RTSP cameras to test against")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--cameras", type=int, default=1)
    parser.add_argument("--width", type=int, default=160)
    parser.add_argument("--height", type=int, default=120)
    parser.add_argument("--rate", type=float, default=10.0)
    parser.add_argument("--gop", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--cards", action="store_true", help="camera n shows the card of identity n")
    parser.add_argument("--first", type=int, default=0, help="identity that camera 0 shows")
    given = parser.parse_args(arguments)
    count = max(given.gop, round(given.seconds * given.rate / given.gop) * given.gop)
    size = {"width": given.width, "height": given.height}
    blocks = None if given.cards else encode(moving_blocks(count, **size), rate=given.rate, gop=given.gop)
    server = RtspServer(given.port)
    for number in range(given.cameras):
        clip = blocks or encode(
            moving_cards(count, (given.first + number,), side=given.height * 5 // 9, **size),
            rate=given.rate,
            gop=given.gop,
        )
        server.add(f"/cam{number}", clip, password=os.environ.get("CAMERA_PASSWORD"))
    with server:
        print(json.dumps({"port": server.port}), flush=True)  # noqa: T201  # how its starter learns the port
        for line in sys.stdin:
            command = json.loads(line)
            if "reset" in command:
                server.reset(command["reset"])
            else:
                server.cameras[command["path"]].fault = Fault(command["fault"])


if __name__ == "__main__":
    main()
