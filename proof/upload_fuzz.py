"""What the face service makes of uploads that are none: `python proof/upload_fuzz.py [--small]`.

The real service as a process, with real InsightFace on the generated card pack. It is sent mutated JPEGs and PNGs (of
cards, of noise, of all sorts of either format), decompression bombs, files under wrong names, forms that are none, and
100 MB in four ways. What each answer must be is said by Pillow, asked on its own: what it cannot unpack is no photo,
what has too many pixels is too large, and of anything else only the answers about faces are right. Watched meanwhile:
the time of each answer, the memory of the process, and how many bytes of the 100 MB it takes.
"""

from __future__ import annotations

import io
import random
import socket
import struct
import sys
import tempfile
import threading
import time
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from _face_service import CURE, MemoryWatch, ServiceProcess
from _report import Proof

proof = Proof(
    "upload_fuzz",
    "Every upload gets the right error code within 5 s; memory stays below idle + 300 MB; 100 MB are refused unread",
    __doc__,
    "500 images instead of 10,000",
)
PIXELS = 20_000_000
BYTES = 10_000_000
MOST_SECONDS = 5.0
MOST_MEGABYTES = 300.0
HUGE = 100_000_000
MOST_TAKEN = 30_000_000  # bytes of it: the limit, what is read for politeness, and what the kernels hold
THREADS = 4
FACES = {(200, ""), (400, "NO_FACE_IN_PHOTO"), (400, "MULTIPLE_FACES_DETECTED"), (400, "LOW_QUALITY_FACE")}


# -- what is sent --------------------------------------------------------------------------------------------------


def originals() -> list[bytes]:
    """Whole pictures of all sorts."""
    import numpy as np
    import PIL.Image

    from resilient_faces.testing.card_pack import Placed, encoded, photo, scene

    def saved(image: Any, kind: str, **options: Any) -> bytes:
        sink = io.BytesIO()
        image.save(sink, kind, **options)
        return sink.getvalue()

    noise = PIL.Image.fromarray(np.random.default_rng(1).integers(0, 255, (90, 120, 3), np.uint8))
    card = PIL.Image.open(io.BytesIO(photo(1, side=200, kind="PNG"))).convert("RGB")
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    exif[0x010E] = "a description"
    two = scene([Placed(1, (20, 40), 200), Placed(2, (360, 40), 200)], width=600, height=300)
    found = [photo(1, side=200), photo(2, side=180, kind="PNG"), encoded(two), encoded(two, "PNG")]
    for image in (noise, card):
        found += [saved(image, "JPEG", quality=quality, progressive=p) for quality in (30, 95) for p in (False, True)]
        found += [saved(image.convert(mode), "JPEG") for mode in ("L", "CMYK")]
        found += [saved(image.convert(mode), "PNG") for mode in ("L", "LA", "P", "RGBA", "1")]
        found += [saved(image, "JPEG", exif=exif, icc_profile=b"x" * 500), saved(image, "PNG", exif=exif)]
        found += [saved(image.convert("I;16"), "PNG"), saved(image, "JPEG", restart_marker_blocks=4)]
    return found


def mutated(source: random.Random, whole: list[bytes]) -> bytes:
    """One picture, broken in one to three ways."""
    data = bytearray(source.choice(whole))
    for _ in range(source.randint(1, 3)):
        at = source.randrange(len(data)) if data else 0
        match source.randrange(9):
            case 0:
                data[at : at + 1] = bytes([source.randrange(256)])
            case 1:
                for _ in range(source.randint(2, 60)):
                    data[source.randrange(len(data))] ^= 1 << source.randrange(8)
            case 2:
                del data[at:]
            case 3:
                del data[at : at + source.randint(1, 400)]
            case 4:
                data[at:at] = source.randbytes(source.randint(1, 400))
            case 5:
                data[at : at + source.randint(1, 200)] = bytes(source.randint(1, 200))
            case 6:
                other = source.choice(whole)
                data[at:] = other[source.randrange(len(other)) :]
            case 7:
                data[at:at] = data[at : at + source.randint(1, 2000)]
            case _:
                head = min(len(data), 40)  # where formats and sizes are written
                data[source.randrange(head) if head else 0 : head] = source.randbytes(4)
        if not data:
            break
    return bytes(data)


def png(width: int, height: int, *chunks: tuple[bytes, bytes], colour: int = 0, depth: int = 8, rows: int = 0) -> bytes:
    """A PNG by hand, with as many rows of zeros as are asked for."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    packer = zlib.compressobj(9)
    line = bytes(1 + width * {0: 1, 2: 3, 6: 4}[colour] * depth // 8)
    body = b"".join(packer.compress(line) for _ in range(rows)) + packer.flush()
    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    middle = b"".join(chunk(*one) for one in chunks)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + middle + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def jpeg(width: int, height: int, mode: str = "RGB", **options: Any) -> bytes:
    import PIL.Image

    sink = io.BytesIO()
    PIL.Image.new(mode, (width, height)).save(sink, "JPEG", **options)
    return sink.getvalue()


def bombs() -> dict[str, tuple[bytes, set[tuple[int, str]]]]:
    """Small files that would become large, or slow."""
    large, broken = {(413, "PHOTO_TOO_LARGE")}, {(400, "INVALID_FILE_FORMAT")}
    endless = jpeg(4400, 4400, progressive=True)
    scan = endless[endless.rindex(b"\xff\xda") : -2]
    text = zlib.compress(bytes(50_000_000), 9)
    side = 4472  # just below the limit
    return {
        "PNG of 900 million pixels": (png(30_000, 30_000, rows=100), large),
        "PNG of 4 thousand million pixels": (png(65_500, 65_500), large),
        "PNG just above the limit": (png(side + 1, side, rows=side), large),
        "PNG at the limit": (png(side, side, rows=side), FACES),
        "PNG at the limit, RGBA": (png(side, side, colour=6, rows=side), FACES),
        "PNG at the limit, 16 bit": (png(side, side, depth=16, rows=side), FACES),
        "PNG whose text is 50 MB": (png(10, 10, (b"zTXt", b"k\0\0" + text), rows=10), broken | FACES | large),
        "PNG whose profile is 50 MB": (png(10, 10, (b"iCCP", b"k\0\0" + text), rows=10), broken | FACES | large),
        "JPEG of 4 thousand million pixels": (jpeg_header(65_500, 65_500), large),
        "JPEG at the limit, progressive": (jpeg(side, side, progressive=True, subsampling=0), FACES),
        "JPEG at the limit, progressive CMYK": (jpeg(side, side, "CMYK", progressive=True), FACES),
        "JPEG of 20,000 scans": (endless[:-2] + scan * 20_000 + endless[-2:], broken),
        "JPEG of 40 scans": (endless[:-2] + scan * 30 + endless[-2:], FACES),
    }


def jpeg_header(width: int, height: int) -> bytes:
    """A JPEG that says it is larger than it is."""
    data = bytearray(jpeg(16, 16))
    at = data.index(b"\xff\xc0") + 5
    data[at : at + 4] = struct.pack(">HH", height, width)
    return bytes(data)


# -- what must be answered -----------------------------------------------------------------------------------------


def expected(photo: bytes) -> set[tuple[int, str]]:
    """What Pillow says of it."""
    import PIL.Image
    import PIL.ImageOps

    if not photo:
        return {(400, "PHOTO_FILE_NOT_FOUND")}
    if not photo.startswith((b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n")):
        return {(400, "INVALID_FILE_FORMAT")}
    try:
        with PIL.Image.open(io.BytesIO(photo), formats=("JPEG", "PNG")) as opened:
            if opened.width * opened.height > PIXELS:
                return {(413, "PHOTO_TOO_LARGE")}
            PIL.ImageOps.exif_transpose(opened).convert("RGB")
    except PIL.Image.DecompressionBombError:
        return {(413, "PHOTO_TOO_LARGE")}
    except Exception:
        return {(400, "INVALID_FILE_FORMAT")}
    return FACES


def said(response: Any) -> tuple[int, str]:
    return response.status_code, str(response.json().get("code", ""))


class Asked:
    """Answers so far: how many of each, the slowest, and the wrong ones."""

    def __init__(self) -> None:
        self.answers: Counter[str] = Counter()
        self.slowest = 0.0
        self._lock = threading.Lock()

    def note(self, what: str, answer: tuple[int, str], right: set[tuple[int, str]], seconds: float) -> None:
        with self._lock:
            self.answers[f"{answer[0]} {answer[1] or 'an embedding'}"] += 1
            self.slowest = max(self.slowest, seconds)
            proof.check(answer in right, f"{what}: {answer}, not one of {sorted(right)}")
            proof.check(seconds <= MOST_SECONDS, f"{what}: answered after {seconds:.1f} s")


def send(client: Any, asked: Asked, what: str, photo: bytes, right: set[tuple[int, str]], name: str = "a.jpg") -> None:
    began = time.monotonic()
    response = client.post("/embeddings/generate", files={"photo": (name, photo)}, data={"submissionId": "1"})
    asked.note(what, said(response), right, time.monotonic() - began)


def fuzz(service: ServiceProcess, asked: Asked, count: int) -> None:
    """Mutated pictures, from several callers at once; the same ones in each run."""
    whole = originals()
    for number, photo in enumerate(whole):
        with service.client() as client:
            send(client, asked, f"original {number}", photo, FACES)

    def call(first: int) -> None:
        with service.client() as client:
            for number in range(first, count, THREADS):
                photo = mutated(random.Random(number), whole)
                send(client, asked, f"mutation {number}", photo, expected(photo), f"{number}.gif")

    threads = [threading.Thread(target=call, args=(first,)) for first in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def bombard(service: ServiceProcess, asked: Asked, rounds: int, callers: int) -> None:
    """Each bomb, from several callers at once; one of them may be told to come again."""
    for name, (photo, right) in bombs().items():
        busy = right | {(503, "SERVICE_BUSY")}

        def call(name: str = name, photo: bytes = photo, right: set[tuple[int, str]] = busy) -> None:
            with service.client() as client:
                send(client, asked, name, photo, right)

        for _ in range(rounds):
            threads = [threading.Thread(target=call) for _ in range(callers)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()


def odd_forms(service: ServiceProcess, asked: Asked) -> None:
    """Bodies that are no form, or one that nobody would make."""
    photo = originals()[0]
    with service.client() as client:
        send(client, asked, "nothing", b"", {(400, "PHOTO_FILE_NOT_FOUND")})
        for name in ("a.exe", "a.png", "../../etc/passwd", "a" * 5000, "\u202egpj.a", "a\r\nb"):
            send(client, asked, f"a JPEG called {name[:10]!r}", photo, FACES | {(400, "BAD_REQUEST")}, name)
        start = b"--x\r\nContent-Disposition: form-data; name="
        form = start + b"photo; filename=a\r\n\r\n" + photo + b"\r\n--x"
        by_x = "multipart/form-data; boundary=x"
        bodies: dict[str, tuple[bytes, str, set[int]]] = {
            "no boundary": (form, "multipart/form-data", {400}),
            "another boundary": (form, "multipart/form-data; boundary=y", {400, 422}),
            "never ends": (form, by_x, {400, 422}),
            "100,000 parts": ((start + b"a\r\n\r\n\r\n") * 100_000, by_x, {400}),
            "a header of 5 MB": (start + b"a" * 5_000_000, by_x, {400}),
            "line ends alone": (b"\r\n" * 2_000_000, by_x, {400, 422}),
            "a boundary that is nearly there": (start + b"a\r\n\r\n" + b"\r\n--" * 2_000_000, by_x, {400, 422}),
            "a bare photo": (photo, "image/jpeg", {415}),
            "JSON": (b"{}", "application/json", {415}),
        }
        for name, (body, kind, right) in bodies.items():
            began = time.monotonic()
            response = client.post("/embeddings/generate", content=body, headers={"content-type": kind})
            code = str(response.json().get("code", "INVALID"))
            answers = {(status, code) for status in right}
            asked.note(f"a form: {name}", (response.status_code, code), answers, time.monotonic() - began)


def huge(service: ServiceProcess, asked: Asked) -> dict[str, Any]:
    """100 MB, with and without a length, with one that lies, and without a key: how much of it can be sent."""
    head = b'--x\r\nContent-Disposition: form-data; name="photo"; filename="a.jpg"\r\n\r\n\xff\xd8\xff'
    block = bytes(65_536)

    def chunks(piece: bytes) -> bytes:
        return f"{len(piece):x}\r\n".encode() + piece + b"\r\n"

    ways: dict[str, tuple[list[str], Any, set[int]]] = {
        "with its length": ([f"Content-Length: {HUGE}"], bytes, {413}),
        "in chunks": (["Transfer-Encoding: chunked"], chunks, {413}),
        "with a length of 500": (["Content-Length: 500"], bytes, {400, 422}),
        "with both": ([f"Content-Length: {HUGE}", "Transfer-Encoding: chunked"], chunks, {413, 400}),
        "without a key": (["Transfer-Encoding: chunked", "X-API-Key: none"], chunks, {401}),
    }
    found: dict[str, Any] = {}
    for name, (headers, framed, right) in ways.items():
        key = [] if name == "without a key" else [f"X-API-Key: {service.key}"]
        lines = ["POST /embeddings/generate HTTP/1.1", "Host: service", *headers, *key]
        lines += ["Content-Type: multipart/form-data; boundary=x", "", ""]
        began = time.monotonic()
        with socket.create_connection(("127.0.0.1", service.port)) as line:
            line.settimeout(20.0)
            taken, answer = 0, b""
            try:
                line.sendall("\r\n".join(lines).encode() + framed(head))
                while taken < HUGE:
                    piece = framed(block)
                    line.sendall(piece)
                    taken += len(piece)
            except OSError:
                pass  # it hung up, as it should
            try:
                while data := line.recv(65_536):
                    answer += data
            except OSError:
                pass
        seconds = time.monotonic() - began
        status = int(answer.split(b" ", 2)[1]) if answer.startswith(b"HTTP/1.1 ") else 0
        found[name] = {"status": status, "megabytes_sent": round(taken / 1e6, 1), "seconds": round(seconds, 2)}
        proof.say(f"100 MB {name:22} {status}  {taken / 1e6:5.1f} MB could be sent, {seconds:.2f} s")
        proof.check(status in right, f"100 MB {name}: answered with {status}")
        proof.check(taken < MOST_TAKEN, f"100 MB {name}: {taken} bytes could be sent")
        proof.check(seconds <= MOST_SECONDS, f"100 MB {name}: took {seconds:.1f} s")
    return found


def lines_of(asked: Asked) -> Iterator[str]:
    for answer, count in sorted(asked.answers.items()):
        yield f"  {answer:34} {count:6}"


def main() -> int:
    options = proof.parse()
    proof.need("insightface", "onnx", "fastapi", "httpx", cure=CURE)
    import warnings

    warnings.filterwarnings("ignore", module=r"PIL\.")
    from resilient_faces.testing.card_pack import photo, write_pack

    count = 500 if options.small else 10_000
    asked = Asked()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_pack(folder / "data" / "pack")
        with ServiceProcess(folder, detection_size=320, photo_pixels=PIXELS, photo_bytes=BYTES) as service:
            with service.client() as client:
                for number in range(10):  # what is loaded on first use belongs to idling
                    client.post(
                        "/embeddings/generate", files={"photo": ("a", photo(number))}, data={"submissionId": "1"}
                    )
            idle = service.memory
            with MemoryWatch(service) as memory:
                began = time.monotonic()
                fuzz(service, asked, count)
                seconds = time.monotonic() - began
                fuzzed = memory.most
                odd_forms(service, asked)
                bombard(service, asked, *((1, 2) if options.small else (5, THREADS)))
                large = huge(service, asked)
            with service.client() as client:
                good = client.post(
                    "/embeddings/generate", files={"photo": ("a.jpg", photo(1))}, data={"submissionId": "1"}
                )
                live = client.get("/health/live")
            proof.check(good.status_code == 200, f"a good photo in the end: {good.status_code}")
            proof.check(live.status_code == 200 and service.alive, "the service is not alive in the end")
            after = service.memory
            code = service.stop()
            proof.check(code == 0, f"the service ended with {code}")
        text = service.log.read_text(encoding="utf-8")
        proof.check(
            "Traceback" not in text and "Request failed" not in text, "the service's log has an error of its own"
        )
    proof.check(memory.most <= idle + MOST_MEGABYTES, f"memory rose from {idle:.0f} to {memory.most:.0f} MB")
    for line in lines_of(asked):
        proof.say(line)
    proof.say(f"slowest answer {asked.slowest:.2f} s; {count} mutations in {seconds:.0f} s")
    proof.say(
        f"memory: idle {idle:.0f} MB, most {memory.most:.0f} MB ({fuzzed:.0f} while fuzzed), after {after:.0f} MB"
    )
    return proof.finish(
        parameters={"mutations": count, "pixels": PIXELS, "bytes": BYTES, "callers": THREADS},
        figures={
            "answers": dict(sorted(asked.answers.items())),
            "slowest_seconds": round(asked.slowest, 2),
            "fuzz_seconds": round(seconds, 1),
            "idle_mb": round(idle),
            "most_mb": round(memory.most),
            "after_mb": round(after),
            "huge": large,
        },
        packages=("fastapi", "starlette", "uvicorn", "python-multipart", "pillow", "insightface", "onnxruntime"),
    )


if __name__ == "__main__":
    sys.exit(main())
