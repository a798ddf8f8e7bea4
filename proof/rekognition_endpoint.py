"""The real AWS CLI and JavaScript SDK against the local endpoint: `python proof/rekognition_endpoint.py [--small]`.

With `resilient-faces rekognition` on loopback:

- a real photograph is indexed by the AWS CLI with its box on the face, the endpoint being killed with -9 and started
  again after every call;
- with the card pack through InsightFace, CLI and SDK find the same identity and not another;
- no face, too large, wrong format, unknown collection and too many calls are the service's own errors in both;
- clients index without pause while the endpoint is killed with -9 again and again: nothing acknowledged is lost.

CLI and SDK are installed below `.venv/`, at pinned versions, each in a place of its own (the CLI pins botocore).
"""

from __future__ import annotations

import io
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from _report import ROOT, Proof

AWSCLI = "1.46.3"
SDK = "3.1142.0"
HERE = Path(__file__).resolve().parent
ASTRONAUT = (178, 70, 272, 186)  # the face in the photograph, noted by hand: left, top, right, bottom
OVERLAP = 0.5
SLOW_LISTING = "ListCollections=0.001"  # the second call is over the quota, however slow the machine

SAID = re.compile(r"An error occurred \((\w+)\) when calling the \w+ operation(?: \([^)]*\))?: (.*)")
SERVICE_ERRORS = {
    "create again": ("ResourceAlreadyExistsException", "already exists"),
    "no face to search": ("InvalidParameterException", "There are no faces in the image. Should be at least 1."),
    "no face to compare": ("InvalidParameterException", "Request has invalid parameters"),
    "too large": ("ImageTooLargeException", "Image size is too large"),
    "wrong format": ("InvalidImageFormatException", "Request has invalid image format"),
    "unknown collection": ("ResourceNotFoundException", "does not exist"),
    "over the quota": ("ProvisionedThroughputExceededException", "Provisioned rate exceeded"),
}

proof = Proof(
    "rekognition_endpoint",
    "AWS CLI and JavaScript SDK work against the local endpoint, which loses nothing that it acknowledged",
    __doc__,
    small="fewer kills, for CI",
)


class Endpoint:
    """`resilient-faces rekognition` in a process of its own, that can be killed and started again."""

    def __init__(self, data: Path, *options: str) -> None:
        self._command = [
            sys.executable,
            "-m",
            "resilient_faces",
            "rekognition",
            "--json",
            "--data",
            str(data),
            *options,
        ]
        self._log = data.with_suffix(".log")
        self.port = 0
        self.starts: list[float] = []
        self.start()

    def start(self) -> None:
        began = time.monotonic()
        with self._log.open("w") as sink:
            command = [*self._command, "--port", str(self.port)]
            self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=sink, text=True)
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            proof.lacks(f"the endpoint did not start: {self._log.read_text()}")
        hello = json.loads(line)
        self.port, self.url = int(hello["port"]), str(hello["url"])
        self.starts.append(round(time.monotonic() - began, 2))

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(60)
        if self.process.stdout is not None:
            self.process.stdout.close()

    def stop(self) -> int:
        self.process.terminate()
        code = self.process.wait(60)
        if self.process.stdout is not None:
            self.process.stdout.close()
        return code


@contextmanager
def endpoint(data: Path, *options: str) -> Iterator[Endpoint]:
    one = Endpoint(data, *options)
    try:
        yield one
    finally:
        if one.process.poll() is None:
            proof.check(one.stop() == 0, "the endpoint did not end with 0 on SIGTERM")


# -- the clients --------------------------------------------------------------------------------------------------


def install_awscli() -> str:
    place = ROOT / ".venv" / f"awscli-{AWSCLI}"
    aws = place / ("Scripts/aws.cmd" if os.name == "nt" else "bin/aws")
    if not aws.is_file():
        proof.say(f"installing awscli {AWSCLI} into {place.relative_to(ROOT)} ...")
        shutil.rmtree(place, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", place], check=True)
        python = place / ("Scripts/python" if os.name == "nt" else "bin/python")
        subprocess.run([python, "-m", "pip", "install", "--quiet", f"awscli=={AWSCLI}"], check=True, stdout=sys.stderr)
    return str(aws)


def install_sdk() -> Path:
    if shutil.which("node") is None or shutil.which("npm") is None:
        proof.lacks("node and npm are not installed, and the JavaScript SDK is half of the proof.")
    place = ROOT / ".venv" / f"aws-sdk-rekognition-{SDK}"
    if not (place / "ready").is_file():
        proof.say(f"installing @aws-sdk/client-rekognition {SDK} into {place.relative_to(ROOT)} ...")
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        (place / "package.json").write_text('{"private": true}\n')
        command = ["npm", "install", "--silent", "--no-audit", "--no-fund", f"@aws-sdk/client-rekognition@{SDK}"]
        subprocess.run(command, cwd=place, check=True, stdout=sys.stderr)
        (place / "ready").touch()
    return place


class Cli:
    """The AWS CLI with nothing of the user's configuration."""

    def __init__(self, aws: str, folder: Path) -> None:
        self._aws = aws
        self._folder = folder
        kept = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
        self._environment = {
            **kept,
            "AWS_ACCESS_KEY_ID": "local",
            "AWS_SECRET_ACCESS_KEY": "local",
            "AWS_DEFAULT_REGION": "us-west-2",
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_MAX_ATTEMPTS": "1",
            "NO_PROXY": "127.0.0.1",
        }

    def __call__(self, url: str, *arguments: str) -> dict[str, Any]:
        """The answer, or `{"error": ..., "message": ...}`."""
        command = [self._aws, "--endpoint-url", url, "--output", "json", "rekognition", *arguments]
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, cwd=self._folder, env=self._environment, timeout=120
        )
        if done.returncode == 0:
            return dict(json.loads(done.stdout or "{}"))
        said = SAID.search(done.stderr)
        return {"error": said[1], "message": said[2]} if said else {"error": None, "message": done.stderr}

    def version(self) -> str:
        done = subprocess.run([self._aws, "--version"], capture_output=True, text=True, check=True)
        return (done.stdout or done.stderr).split()[0]


# -- the pictures -------------------------------------------------------------------------------------------------


def make_pictures(folder: Path) -> None:
    import PIL.Image

    from resilient_faces.adapters.recogniser import skimage_data
    from resilient_faces.testing.card_pack import Placed, encoded, photo, scene

    def save(name: str, data: bytes) -> None:
        (folder / name).write_bytes(data)

    save("portrait.png", (skimage_data() / "astronaut.png").read_bytes())
    for identity in range(1, 5):
        save(f"card-{identity}.jpg", photo(identity))
    again = scene([Placed(1, (300, 100), 320)], width=900, height=500, shade=90)
    save("card-1-again.png", encoded(again, "PNG"))
    save("plain.jpg", encoded(scene([], width=300, height=300)))
    save("large.jpg", photo(1) + bytes(5 * 1024 * 1024))
    sink = io.BytesIO()
    PIL.Image.new("L", (200, 200), 100).save(sink, "GIF")
    save("image.gif", sink.getvalue())


# -- the claims ---------------------------------------------------------------------------------------------------


def photograph(cli: Cli, data: Path, *, small: bool) -> dict[str, Any]:
    """The CLI with a real photograph; the endpoint is killed and started again after every call (or every write)."""
    with endpoint(data) as server:

        def call(*arguments: str) -> dict[str, Any]:
            answer = cli(server.url, *arguments)
            if not small or arguments[0] in ("create-collection", "index-faces"):
                server.kill()
                server.start()
            return answer

        image = ("--image-bytes", "fileb://portrait.png")
        created = call("create-collection", "--collection-id", "photos")
        arn = created.get("CollectionArn")
        proof.check(arn == "aws:rekognition:us-west-2:000000000000:collection/photos", f"created: {created}")
        indexed = call("index-faces", "--collection-id", "photos", *image, "--external-image-id", "astronaut")
        records = indexed.get("FaceRecords", [])
        if not proof.check(len(records) == 1, f"{len(records)} faces were indexed instead of 1"):
            return {"created": created, "indexed": indexed}
        face = records[0]["Face"]
        box = [
            512 * value
            for value in (
                face["BoundingBox"]["Left"],
                face["BoundingBox"]["Top"],
                face["BoundingBox"]["Left"] + face["BoundingBox"]["Width"],
                face["BoundingBox"]["Top"] + face["BoundingBox"]["Height"],
            )
        ]
        shared = overlap(box, ASTRONAUT)
        proof.check(shared >= OVERLAP, f"the box {box} is not on the face {ASTRONAUT}: overlap {shared:.2f}")
        again = call("index-faces", "--collection-id", "photos", *image, "--external-image-id", "astronaut")
        proof.check(again.get("FaceRecords") == records, "the same image and id gave another face")
        listed = call("list-faces", "--collection-id", "photos").get("Faces", [])
        proof.check([one["FaceId"] for one in listed] == [face["FaceId"]], f"listed: {listed}")
        found = call("search-faces-by-image", "--collection-id", "photos", *image).get("FaceMatches", [])
        proof.check(
            [one["Face"]["ExternalImageId"] for one in found] == ["astronaut"],
            f"the photo itself is not found: {found}",
        )
        sides = ("--source-image-bytes", "fileb://portrait.png", "--target-image-bytes", "fileb://portrait.png")
        compared = call("compare-faces", *sides).get("FaceMatches", [])
        proof.check(len(compared) == 1, f"the photo does not match itself: {compared}")
        return {
            "box_px": [round(side) for side in box],
            "overlap_with_noted_box": round(shared, 3),
            "kills": len(server.starts) - 1,
            "seconds_to_start": max(server.starts),
        }


def overlap(a: Any, b: Any) -> float:
    across, down = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    both = max(0.0, across) * max(0.0, down)
    return float(both / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both))


def cards_by_cli(cli: Cli, url: str) -> dict[str, Any]:
    """What the SDK's script does, with the CLI."""

    def image(name: str, parameter: str = "--image-bytes") -> tuple[str, str]:
        return (parameter, f"fileb://{name}")

    def compare(a: str, b: str) -> dict[str, Any]:
        sides = (*image(a, "--source-image-bytes"), *image(b, "--target-image-bytes"))
        answer = cli(url, "compare-faces", *sides)
        return answer if "error" in answer else {"ok": [len(answer["FaceMatches"]), len(answer["UnmatchedFaces"])]}

    def search(name: str, collection: str = "cli") -> dict[str, Any]:
        answer = cli(url, "search-faces-by-image", "--collection-id", collection, *image(name))
        return (
            answer if "error" in answer else {"ok": [one["Face"]["ExternalImageId"] for one in answer["FaceMatches"]]}
        )

    found: dict[str, Any] = {
        "create": {"ok": cli(url, "create-collection", "--collection-id", "cli").get("StatusCode")},
        "create again": cli(url, "create-collection", "--collection-id", "cli"),
    }
    index = ("index-faces", "--collection-id", "cli", "--external-image-id", "one", *image("card-1.jpg"))
    found["index"] = {"ok": len(cli(url, *index).get("FaceRecords", []))}
    listed = cli(url, "list-faces", "--collection-id", "cli").get("Faces", [])
    found["list"] = {"ok": [face["ExternalImageId"] for face in listed]}
    found["same identity"] = search("card-1-again.png")
    found["another identity"] = search("card-2.jpg")
    same = compare("card-1.jpg", "card-1-again.png")
    found["compare same"] = {"ok": same["ok"][0]} if "ok" in same else same
    found["compare others"] = compare("card-1.jpg", "card-2.jpg")
    found["no face to search"] = search("plain.jpg")
    found["no face to compare"] = compare("plain.jpg", "card-1.jpg")
    found["too large"] = search("large.jpg")
    found["wrong format"] = search("image.gif")
    found["unknown collection"] = search("card-1.jpg", "nowhere")
    found["within the quota"] = {"ok": bool(cli(url, "list-collections").get("CollectionIds"))}
    found["over the quota"] = cli(url, "list-collections")
    return found


def judge(client: str, found: Mapping[str, Mapping[str, Any]]) -> None:
    """Each step came out as the service would have it."""
    good = {
        "create": 200,
        "index": 1,
        "list": ["one"],
        "same identity": ["one"],
        "another identity": [],
        "compare same": 1,
        "compare others": [0, 1],
        "within the quota": True,
    }
    for step, expected in good.items():
        proof.check(found[step].get("ok") == expected, f"{client}, {step}: {found[step]} instead of {expected}")
    for step, (code, text) in SERVICE_ERRORS.items():
        seen = found[step]
        right = seen.get("error") == code and text in str(seen.get("message"))
        proof.check(right, f"{client}, {step}: {seen} instead of {code}: {text}")


def cards_by_sdk(sdk: Path, folder: Path, url: str) -> dict[str, Any]:
    shutil.copy(HERE / "rekognition_endpoint.mjs", sdk / "run.mjs")
    command = ["node", "run.mjs", url, str(folder), "sdk"]
    done = subprocess.run(command, cwd=sdk, capture_output=True, text=True, check=False, timeout=120)
    if done.returncode != 0:
        proof.check(False, f"node ended with {done.returncode}: {done.stderr[-500:]}")
        return {}
    found: dict[str, Any] = json.loads(done.stdout)
    answered = [step for step, one in found.items() if "ok" in one and not one["requestId"]]
    proof.check(not answered, f"the SDK saw no request id of: {', '.join(answered)}")
    wrong = [step for step, one in found.items() if "error" in one and (one["fault"], one["status"]) != ("client", 400)]
    proof.check(not wrong, f"the SDK did not see a fault of the client with status 400 in: {', '.join(wrong)}")
    return found


def kills(data: Path, pack: Path, rounds: int, seed: int) -> dict[str, Any]:
    """Index without pause from four threads while the endpoint is killed; then look for all that was acknowledged."""
    from resilient_faces.adapters.aws import LocalEndpoint, connect
    from resilient_faces.testing.card_pack import photo

    chance = random.Random(seed)
    pictures = [photo(identity) for identity in range(4)]
    acknowledged: dict[str, str] = {}
    unanswered = 0
    lock = threading.Lock()
    over = threading.Event()
    options = ("--engine", "insightface", "--pack", str(pack), "--no-throttling")
    with endpoint(data, *options) as server:
        here = LocalEndpoint(server.url)
        setup = connect("rekognition", region="us-west-2", endpoint=here)
        setup.create_collection(CollectionId="kills")

        def index(worker: int) -> None:
            nonlocal unanswered
            client = connect("rekognition", region="us-west-2", endpoint=here)
            number = 0
            while not over.is_set():
                name = f"w{worker}-{number}"
                try:
                    answer = client.index_faces(
                        CollectionId="kills", Image={"Bytes": pictures[worker]}, ExternalImageId=name
                    )
                except Exception:  # killed under way: the same image and id are sent again
                    with lock:
                        unanswered += 1
                    over.wait(0.25)
                    continue
                with lock:
                    acknowledged[name] = answer["FaceRecords"][0]["Face"]["FaceId"]
                number += 1

        workers = [threading.Thread(target=index, args=(worker,)) for worker in range(4)]
        for worker in workers:
            worker.start()
        for _ in range(rounds):
            progress(acknowledged, 8)
            over.wait(chance.uniform(0.0, 0.5))
            server.kill()
            server.start()
        progress(acknowledged, 8)
        over.set()
        for worker in workers:
            worker.join()
        server.kill()
        server.start()
        pages = setup.get_paginator("list_faces").paginate(CollectionId="kills")
        stored = [(face["ExternalImageId"], face["FaceId"]) for page in pages for face in page["Faces"]]
    kept = dict(stored)
    lost = sum(1 for name, face in acknowledged.items() if kept.get(name) != face)
    twice = len(stored) - len(kept)
    proof.check(lost == 0, f"{lost} of {len(acknowledged)} acknowledged faces are lost or are other faces")
    proof.check(twice == 0, f"{twice} faces were stored twice by requests that were sent again")
    return {
        "kills": rounds + 1,
        "acknowledged": len(acknowledged),
        "requests_without_an_answer": unanswered,
        "stored": len(stored),
        "lost": lost,
        "stored_twice": twice,
        "seconds_to_start": max(server.starts),
    }


def progress(acknowledged: Mapping[str, str], more: int) -> None:
    """Wait until so many more requests were acknowledged: the next kill comes in the middle of work."""
    target, patience = len(acknowledged) + more, time.monotonic() + 120.0
    while len(acknowledged) < target:
        if time.monotonic() > patience:
            proof.check(False, "for two minutes no request was acknowledged")
            return
        time.sleep(0.02)


def main() -> int:
    proof.parser.add_argument("--seed", type=int, default=1, help="chooses the moments of the kills")
    options = proof.parse()
    proof.need("boto3", "click", "insightface", "onnx", "skimage")
    from resilient_faces.testing.card_pack import write_pack

    rounds = 2 if options.small else 20
    with tempfile.TemporaryDirectory() as directory:
        folder = Path(directory)
        cli, sdk = Cli(install_awscli(), folder), install_sdk()
        make_pictures(folder)
        pack = write_pack(folder / "pack")
        figures: dict[str, Any] = {"photograph": photograph(cli, folder / "photos", small=options.small)}
        proof.say(f"photograph by CLI, killed between calls: {figures['photograph']}")
        with endpoint(folder / "cards", "--pack", str(pack), "--tps", SLOW_LISTING) as server:
            figures["cli"] = cards_by_cli(cli, server.url)
            server.kill()
            server.start()
            figures["sdk"] = cards_by_sdk(sdk, folder, server.url)
        for client in ("cli", "sdk"):
            if figures[client]:
                judge(client, figures[client])
            proof.say(f"{client}: {len(figures[client])} steps")
        figures["kills"] = kills(folder / "kills", pack, rounds, options.seed)
        proof.say(f"killed while indexing: {figures['kills']}")
    return proof.finish(
        parameters={"rounds": rounds, "seed": options.seed, "threads": 4},
        figures=figures,
        packages=("resilient-faces", "boto3", "insightface", "onnx", "onnxruntime", "scikit-image", "numpy"),
        versions_of={"awscli": cli.version(), "@aws-sdk/client-rekognition": SDK, "node": node_version()},
    )


def node_version() -> str:
    return subprocess.run(["node", "--version"], capture_output=True, text=True, check=True).stdout.strip()


if __name__ == "__main__":
    sys.exit(main())
