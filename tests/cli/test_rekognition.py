"""`resilient-faces rekognition`, as a user starts it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("click", reason="the extra `cli` is not installed")
pytest.importorskip("boto3", reason="the extra `aws` is not installed")
pytest.importorskip("skimage", reason="the extra `demo` is not installed")

from botocore.exceptions import ClientError

from resilient_faces.adapters.aws import LocalEndpoint, connect
from resilient_faces.adapters.recogniser import skimage_data

COMMAND = [sys.executable, "-m", "resilient_faces", "rekognition"]


@contextmanager
def running(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], dict[str, Any]]]:
    """The command and its first line."""
    process = subprocess.Popen(
        [*COMMAND, "--port", "0", "--json", *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    with process:
        assert process.stdout is not None
        try:
            yield process, json.loads(process.stdout.readline() or "{}")
        finally:
            if process.poll() is None:
                process.kill()


def client_of(hello: dict[str, Any]) -> Any:
    return connect("rekognition", region=hello["region"], endpoint=LocalEndpoint(hello["url"]))


def portrait() -> bytes:
    return (skimage_data() / "astronaut.png").read_bytes()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_says_where_it_listens_and_ends_when_told(number: signal.Signals) -> None:
    """One JSON line, a note that the likeness is a hint, and exit code 0 on Ctrl-C as on SIGTERM."""
    with running("--region", "eu-west-1") as (process, hello):
        assert hello["url"] == f"http://127.0.0.1:{hello['port']}"
        assert {name: hello[name] for name in ("schema", "host", "region", "data", "engine", "similarity")} == {
            "schema": 1, "host": "127.0.0.1", "region": "eu-west-1", "data": None, "engine": "basic-lbp-cascade",
            "similarity": "hint",
        }  # fmt: skip
        assert hello["pid"] == process.pid
        client = client_of(hello)
        client.create_collection(CollectionId="c")
        process.send_signal(number)
        out, said = process.communicate(timeout=20)
        client.close()
    assert process.returncode == 0
    assert out == ""
    assert said == "This engine knows nobody: Similarity is a hint about the picture, not about the person.\n"


def test_killed_and_started_again_it_has_what_it_acknowledged(tmp_path: Path) -> None:
    """A directory that was not there is made; after kill -9 the face of a real photo is still known."""
    data = tmp_path / "made" / "for" / "it"
    with running("--data", str(data)) as (process, hello):
        client = client_of(hello)
        client.create_collection(CollectionId="c")
        (record,) = client.index_faces(CollectionId="c", Image={"Bytes": portrait()}, ExternalImageId="a")[
            "FaceRecords"
        ]
        box = record["Face"]["BoundingBox"]
        os.kill(process.pid, signal.SIGKILL)
        process.wait(10)
        client.close()
    assert box["Left"] * 512 == pytest.approx(178, abs=30)  # the face is where people see it: 178, 70, 272, 186
    assert box["Top"] * 512 == pytest.approx(70, abs=40)
    with running("--data", str(data)) as (_, hello):
        client = client_of(hello)
        (match,) = client.search_faces_by_image(CollectionId="c", Image={"Bytes": portrait()})["FaceMatches"]
        assert match["Face"]["FaceId"] == record["Face"]["FaceId"]
        assert match["Similarity"] == pytest.approx(100)
        client.close()
        second = subprocess.run([*COMMAND, "--port", "0", "--data", str(data)], capture_output=True, text=True,
                                check=False, timeout=60)  # fmt: skip
    assert (second.returncode, second.stdout) == (2, "")
    assert second.stderr.startswith("--data: ")
    assert "in use by another process" in second.stderr


def test_a_pack_knows_people(tmp_path: Path) -> None:
    """With a pack the similarity is an identity's: the same card is found, another is not."""
    pytest.importorskip("insightface", reason="the extra `insightface` is not installed")
    from resilient_faces.testing.card_pack import photo, write_pack

    pack = write_pack(tmp_path / "pack")
    with running("--pack", str(pack), "--data", str(tmp_path / "data")) as (process, hello):
        assert (hello["engine"], hello["similarity"]) == ("insightface", "identity")
        client = client_of(hello)
        client.create_collection(CollectionId="c")
        client.index_faces(CollectionId="c", Image={"Bytes": photo(1)}, ExternalImageId="one")
        (match,) = client.search_faces_by_image(CollectionId="c", Image={"Bytes": photo(1, side=300)})["FaceMatches"]
        assert match["Face"]["ExternalImageId"] == "one"
        assert client.search_faces_by_image(CollectionId="c", Image={"Bytes": photo(2)})["FaceMatches"] == []
        client.close()
        process.send_signal(signal.SIGTERM)
        assert process.communicate(timeout=20)[1] == ""
    other = subprocess.run([*COMMAND, "--port", "0", "--data", str(tmp_path / "data")], capture_output=True, text=True,
                           check=False, timeout=60)  # fmt: skip
    assert other.returncode == 2
    assert "cannot be compared" in other.stderr


def test_quotas_are_set_by_operation() -> None:
    """One operation's calls a second, with the error that was chosen; the others keep the region's."""
    with running("--tps", "ListCollections=0.1", "--throttling-error", "ThrottlingException") as (_, hello):
        client = client_of(hello)
        client.list_collections()
        with pytest.raises(ClientError) as caught:
            client.list_collections()
        assert caught.value.response["Error"]["Code"] == "ThrottlingException"
        client.create_collection(CollectionId="c")
        client.close()


def test_no_throttling() -> None:
    """As many as one likes: 20 where 5 a second are the default."""
    with running("--no-throttling") as (_, hello):
        client = client_of(hello)
        for number in range(20):
            client.create_collection(CollectionId=f"c{number}")
        client.close()


def test_the_ledger_names_nobody(tmp_path: Path) -> None:
    """A line a call, without the external id."""
    with running("--ledger", str(tmp_path / "calls.jsonl")) as (_, hello):
        client = client_of(hello)
        client.create_collection(CollectionId="c")
        client.index_faces(CollectionId="c", Image={"Bytes": portrait()}, ExternalImageId="planted-name")
        client.close()
    text = (tmp_path / "calls.jsonl").read_text()
    assert [json.loads(line)["op"] for line in text.splitlines()] == ["CreateCollection", "IndexFaces"]
    assert "planted-name" not in text


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--tps", "many"], 2, "'--tps': must be a number, or OPERATION=number; got 'many'."),
        (["--tps", "IndexFases=3"], 2, "'--tps': the endpoint has no operation 'IndexFases'. Did you mean IndexFaces?"),
        (["--tps", "=3"], 2, "It has: CompareFaces, CreateCollection, "),
        (["--tps", "-1"], 2, "'--tps': must be more than 0 calls a second; got '-1'. --no-throttling sets no limit."),
        (["--tps", "IndexFaces=nan"], 2, "'--tps': must be more than 0 calls a second; got 'IndexFaces=nan'."),
        (["--tps", "3", "--no-throttling"], 2, "contradict each other"),
        (["--engine", "insightface"], 2, "--engine insightface needs --pack DIR"),
        (["--engine", "basic", "--pack", "."], 2, "--pack must be left out with --engine basic, which has no model"),
        (["--s3-endpoint", "foo:planted"], 2, "'--s3-endpoint': must be an address such as http://127.0.0.1:8091"),
        (["--data", ""], 2, "'--data': must be a path; got ''. Leave the option out to do without."),
        (["--data", "/proc/none"], 2, "--data: The data directory /proc/none cannot be made"),
        (["--ledger", ""], 2, "'--ledger': must be a path; got ''."),
        (["--pack", ""], 2, "'--pack': must be a path; got ''."),
        (["--engine", "best"], 2, "'best' is not one of"),
        (["--region", ""], 2, "'--region': must be the name of a region, such as us-west-2; got ''"),
        (["--region", "foo bar"], 2, "'--region': must be the name of a region, such as us-west-2; got 'foo bar'"),
        (["--prot", "1"], 2, "No such option"),
    ],
)
def test_wrong_usage(arguments: list[str], code: int, said: str) -> None:
    """What is wrong and what to do, on standard error; nothing on standard output."""
    done = subprocess.run(
        [*COMMAND, "--port", "0", *arguments], capture_output=True, text=True, check=False, timeout=30
    )
    assert (done.returncode, done.stdout) == (code, "")
    assert said in done.stderr
    assert "planted" not in done.stderr


def test_a_missing_pack_is_a_missing_dependency(tmp_path: Path) -> None:
    """Exit code 3, and no download."""
    done = subprocess.run([*COMMAND, "--pack", str(tmp_path / "none")], capture_output=True, text=True, check=False,
                          timeout=60)  # fmt: skip
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr.startswith("--pack: ")
    assert "nothing is downloaded" in done.stderr


def test_a_taken_port_is_told() -> None:
    """Which one, and what to do."""
    with running() as (_, hello):
        command = [*COMMAND, "--port", str(hello["port"])]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 2
    assert f"--port {hello['port']} cannot be listened on" in done.stderr
    assert "Take another port, or 0." in done.stderr


def test_an_empty_host_is_not_all_of_them() -> None:
    """It is what a variable gives that is not set."""
    command = [*COMMAND, "--port", "0", "--host", ""]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=20)
    assert (done.returncode, done.stdout) == (2, "")
    assert "'--host': must be an address of this machine, such as 127.0.0.1; got ''" in done.stderr


@pytest.mark.parametrize("host", ["192.0.2.1", "nowhere.invalid", "::1"])
def test_a_host_that_no_port_would_help(host: str) -> None:
    """Of another machine, of none, and of a kind that it does not listen on: the cure is another host."""
    done = subprocess.run(
        [*COMMAND, "--port", "0", "--host", host], capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert f"--host {host} --port 0 cannot be listened on" in done.stderr
    assert "Give --host an IPv4 address of this machine." in done.stderr
    assert "another port" not in done.stderr


def test_a_ledger_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    """It is the file that is wrong, and not the address; nothing else was begun."""
    file = tmp_path / "none" / "calls.jsonl"
    command = [*COMMAND, "--port", "0", "--ledger", str(file), "--data", str(tmp_path / "data")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout) == (2, "")
    assert f"--ledger {file} cannot be written: No such file or directory." in done.stderr
    assert "--port" not in done.stderr


def test_people_are_told_too() -> None:
    """Without --json: a sentence, and a command to try."""
    process = subprocess.Popen([*COMMAND, "--port", "0"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    with process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(2)]
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=20)
    assert lines[0].startswith("Rekognition-compatible endpoint on http://127.0.0.1:")
    assert "in memory" in lines[0]
    assert "--endpoint-url http://127.0.0.1:" in lines[1]
