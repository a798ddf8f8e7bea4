"""The RTSP server to test against does what its switches say, seen by a client that is not ours."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

av: Any = pytest.importorskip("av", reason="the extra `rtsp` is not installed: pip install 'resilient-faces[rtsp]'")
numpy: Any = pytest.importorskip("numpy", reason="numpy is not installed: pip install 'resilient-faces[rtsp]'")

from resilient_faces.testing.rtsp_server import (  # noqa: E402  # once it is known that PyAV is there
    BlackHole,
    Clip,
    Fault,
    RtspProcess,
    RtspServer,
    encode,
    moving_blocks,
    moving_cards,
    read_stamp,
    stamp,
)

QUICKLY = {"rtsp_transport": "tcp", "probesize": "32", "analyzeduration": "0"}


@pytest.fixture(scope="module")
def clip() -> Clip:
    return encode(moving_blocks(10), rate=25.0)


@pytest.fixture
def server(clip: Clip) -> Iterator[RtspServer]:
    with RtspServer() as running:
        running.add("/a", clip)
        yield running


def asked(server: RtspServer, *requests: str) -> list[str]:
    """First lines of the answers to requests written by hand."""
    answers = []
    with socket.create_connection(("127.0.0.1", server.port), timeout=2.0) as peer, peer.makefile("rb") as lines:
        for number, request in enumerate(requests):
            method, _, rest = request.partition(" ")
            path, _, header = rest.partition(" ")
            line = f"{method} rtsp://127.0.0.1:{server.port}{path} RTSP/1.0\r\nCSeq: {number}\r\n{header}\r\n\r\n"
            peer.sendall(line.replace("\r\n\r\n\r\n", "\r\n\r\n").encode())
            answers.append(lines.readline().decode().strip())
            length = 0
            while (header_line := lines.readline().strip()) != b"":
                if header_line.lower().startswith(b"content-length:"):
                    length = int(header_line.split(b":")[1])
            lines.read(length)
    return answers


@pytest.mark.parametrize("number", [0, 1, 2**15 + 5, 2**16 - 1])
@pytest.mark.parametrize("width", [160, 320, 1280])
def test_a_stamp_can_be_read(number: int, width: int) -> None:
    """All 16 bits, at every width."""
    assert read_stamp(stamp(numpy.full((120, width, 3), 90, numpy.uint8), number)) == number


def test_a_clip_begins_with_a_key_frame(clip: Clip) -> None:
    """And has one each ten frames, with its parameter sets."""
    clip = encode(moving_blocks(20), gop=10)
    assert [place for place, key in enumerate(clip.keys) if key] == [0, 10]
    assert (clip.parameters(7)[0] & 31, clip.parameters(8)[0] & 31) == (7, 8)
    with pytest.raises(ValueError, match="at least one image"):
        encode([])


def test_stamps_survive_encoding_and_the_network(server: RtspServer) -> None:
    """Every frame arrives, in order, with its number."""
    with av.open(server.url("/a"), timeout=(5.0, 5.0), options=QUICKLY) as container:
        numbers = []
        for frame in container.decode(video=0):
            numbers.append(read_stamp(frame.to_ndarray(format="bgr24")))
            if len(numbers) == 15:
                break
    assert numbers == [(numbers[0] + step) % 10 for step in range(15)]


def test_large_frames_are_sent_in_fragments(server: RtspServer) -> None:
    """A key frame of noise is many packets."""
    noise = numpy.random.default_rng(1).integers(0, 255, (240, 320, 3), numpy.uint8)
    big = encode([noise] * 4, rate=10.0)
    assert max(len(unit) for unit in big.frames[0]) > 14_000
    server.add("/big", big)
    with av.open(server.url("/big"), timeout=(5.0, 5.0), options=QUICKLY) as container:
        frame = next(container.decode(video=0))
        assert abs(frame.to_ndarray(format="bgr24").astype(int) - noise).mean() < 60


def test_answers_by_fault(server: RtspServer, clip: Clip) -> None:
    """Paths, logins, transports and switches give the codes that cameras give."""
    server.add("/locked", clip, password="pw")
    camera = server.cameras["/a"]
    assert asked(server, "OPTIONS /a", "DESCRIBE /a", "DESCRIBE /nowhere", "DESCRIBE /locked") == [
        "RTSP/1.0 200 OK",
        "RTSP/1.0 200 OK",
        "RTSP/1.0 404 Not Found",
        "RTSP/1.0 401 Unauthorized",
    ]
    good = "Authorization: Basic dmlld2VyOnB3"
    udp = "Transport: RTP/AVP;unicast;client_port=9-10"
    assert asked(server, f"DESCRIBE /locked {good}", f"SETUP /a/track1 {udp}") == [
        "RTSP/1.0 200 OK",
        "RTSP/1.0 461 Unsupported Transport",
    ]
    for fault, code in ((Fault.unauthorised, 401), (Fault.missing, 404), (Fault.broken, 503)):
        camera.fault = fault
        assert asked(server, "DESCRIBE /a")[0].split()[1] == str(code)
    camera.fault = Fault.silent
    with socket.create_connection(("127.0.0.1", server.port), 0.2) as peer:
        peer.sendall(f"DESCRIBE {server.url('/a')} RTSP/1.0\r\nCSeq: 1\r\n\r\n".encode())
        with pytest.raises(TimeoutError):
            peer.recv(1)


def test_it_comes_back_on_its_port(server: RtspServer) -> None:
    """Stopped it refuses, started again it answers; two on one port are an error."""
    port = server.port
    with pytest.raises(OSError, match=r"[Aa]ddress"):
        RtspServer(port).start()
    server.stop()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), 1.0)
    server.start()
    assert asked(server, "OPTIONS /a") == ["RTSP/1.0 200 OK"]
    assert server.port == port


def test_a_black_hole_neither_takes_nor_refuses() -> None:
    """Connecting waits until its own limit."""
    with BlackHole() as hole:
        began = time.monotonic()
        with pytest.raises(TimeoutError):
            socket.create_connection(("127.0.0.1", hole.port), 0.3)
        assert time.monotonic() - began >= 0.29


def test_a_process_shows_cards(tmp_path: Path) -> None:
    """In a process of its own, with a password that is not on its command line."""
    pytest.importorskip("PIL", reason="pillow is not installed: pip install 'resilient-faces[demo]'")
    with RtspProcess(
        tmp_path, cameras=2, width=320, height=180, seconds=1.0, rate=20.0, cards=True, password="pw"
    ) as process:
        assert "pw" not in " ".join(process._arguments)
        with av.open(process.url(1), timeout=(5.0, 5.0), options=QUICKLY) as container:
            image = next(container.decode(video=0)).to_ndarray(format="bgr24").astype(int)
    magenta = (image[:, :, 0] > 180) & (image[:, :, 2] > 180) & (image[:, :, 1] < 90)
    assert 40 < magenta.sum() < 400
    assert len(list(moving_cards(4, (1, 2)))) == 4
