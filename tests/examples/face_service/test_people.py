"""Enrolled people: added, found, counted, removed, and on the disk before anybody is told."""

from __future__ import annotations

import stat
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio.to_thread
import numpy as np
import pytest

from face_service.testing import Service, picture, until
from resilient_faces.adapters.gallery import Gallery

PNG = picture()


def counts(service: Service) -> tuple[int, int]:
    data = service.ask("GET", "/people").json()["data"]
    return data["people"], data["embeddings"]


def test_people_are_enrolled_and_counted(service: Service) -> None:
    """One may have several photos; counts name nobody."""
    for person, shade in (("ann", 10), ("ann", 60), ("bob", 200)):
        answer = service.enrol(person, shade)
        assert answer.status_code == 200
        assert answer.json()["data"] == {"personId": person, "quality": 0.93}
    assert counts(service) == (2, 3)
    assert service.ask("GET", "/people").json()["data"]["space"] == "stub"
    assert service.ask("GET", "/people/ann").json() == {"status": 200, "data": {"personId": "ann"}}


def test_who_is_not_enrolled(service: Service) -> None:
    """404, for a question and for a removal."""
    for method in ("GET", "DELETE"):
        answer = service.ask(method, "/people/nobody")
        assert (answer.status_code, answer.json()["code"]) == (404, "PERSON_NOT_FOUND")


def test_a_photo_without_one_good_face_enrols_nobody(service: Service) -> None:
    """With the same codes as an embedding."""
    service.engine.faces = 2
    answer = service.enrol("ann")
    assert (answer.status_code, answer.json()["code"]) == (400, "MULTIPLE_FACES_DETECTED")
    assert counts(service) == (0, 0)


@pytest.mark.parametrize("person", ["a b", ".hidden", "x" * 65, "ä", "a%00b", "a\nb"])
def test_an_id_is_a_word(service: Service, person: str) -> None:
    """Letters, digits and a few signs: it comes back in webhooks and paths."""
    answer = service.enrol(person.replace("\n", "%0A"))
    assert answer.status_code == 422
    assert counts(service) == (0, 0)


def test_an_enrolment_is_on_the_disk_when_it_is_answered(service: Service) -> None:
    """For this user alone; another process reads what the answer promised."""
    service.enrol("ann", 10)
    file = service.settings.gallery_file
    assert Gallery.load(file, space="stub").identities() == ("ann",)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700


def test_people_are_there_after_a_restart(tmp_path: Path, resilience: None) -> None:
    """The gallery is read when the service starts."""
    with Service(tmp_path / "data") as first:
        first.enrol("ann", 10)
    with Service(tmp_path / "data") as second:
        assert counts(second) == (1, 1)


def test_who_is_removed_is_gone(service: Service) -> None:
    """From memory and from the file: the person's numbers are in neither."""
    service.enrol("ann", 10)
    service.enrol("bob", 200)
    before = service.settings.gallery_file.read_bytes()
    assert b"ann" in before
    answer = service.ask("DELETE", "/people/ann")
    assert answer.json() == {"status": 200, "data": {"personId": "ann", "embeddings": 1}}
    assert b"ann" not in service.settings.gallery_file.read_bytes()
    assert Gallery.load(service.settings.gallery_file, space="stub").identities() == ("bob",)
    assert service.ask("GET", "/people/ann").status_code == 404


def test_changes_that_come_together_are_written_together(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """While one writing is under way the next one collects all that come; each is answered after it was written."""
    gallery = service.parts.people.gallery
    assert gallery is not None
    save = Gallery.save
    written: list[int] = []
    started, go = threading.Event(), threading.Event()

    def slow(self: Gallery, path: Path) -> None:
        started.set()
        go.wait(10.0)
        save(self, path)
        written.append(len(self))

    monkeypatch.setattr(Gallery, "save", slow)
    threads = [threading.Thread(target=service.enrol, args=(f"p{number}", 10)) for number in range(9)]
    threads[0].start()
    started.wait(10.0)
    for thread in threads[1:]:
        thread.start()
    until(lambda: len(gallery) == 9)
    go.set()
    for thread in threads:
        thread.join()
    assert written[-1] == 9
    assert len(written) <= 3, "nine changes, not nine writings"
    assert len(Gallery.load(service.settings.gallery_file, space="stub")) == 9


def test_a_disk_that_is_full(
    service: Service, monkeypatch: pytest.MonkeyPatch, everything: pytest.LogCaptureFixture
) -> None:
    """500 and a degraded gallery, until a change could be written; the old file is as it was."""
    service.enrol("ann", 10)
    before = service.settings.gallery_file.read_bytes()

    def full(self: Gallery, path: Path) -> None:
        raise OSError(28, f"No space left: {path}")

    with monkeypatch.context() as patched:
        patched.setattr(Gallery, "save", full)
        answer = service.enrol("bob", 200)
    assert (answer.status_code, answer.json()["code"]) == (500, "INTERNAL_ERROR")
    assert service.settings.gallery_file.read_bytes() == before
    state = service.ask("GET", "/health").json()["services"]["gallery"]
    assert (state["status"], state["reason"]) == ("degraded", "gallery.not_saved")
    assert "bob" not in everything.text
    service.enrol("cid", 100)
    assert service.ask("GET", "/health").json()["services"]["gallery"]["status"] == "healthy"
    assert len(Gallery.load(service.settings.gallery_file, space="stub")) == 3, "what was refused is written with it"


DAMAGE: dict[str, Callable[[Path], Any]] = {
    "gallery.damaged": lambda file: file.write_bytes(b"resilient-faces gallery\nrubbish"),
    "gallery.space": lambda file: Gallery("another", length=8).save(file),
}


@pytest.mark.parametrize("reason", DAMAGE)
def test_a_file_that_cannot_be_used_is_left_alone(
    tmp_path: Path, resilience: None, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The service starts, says why, enrols nobody, and overwrites nothing; mended, it is used without a restart."""
    file = tmp_path / "data" / "people.gallery"
    file.parent.mkdir()
    DAMAGE[reason](file)
    before = file.read_bytes()
    with Service(tmp_path / "data") as service:
        for answer in (service.enrol("ann"), service.ask("GET", "/people"), service.ask("DELETE", "/people/ann")):
            assert (answer.status_code, answer.json()["code"]) == (503, "GALLERY_UNAVAILABLE")
            assert answer.json()["reason"] == reason
        assert service.embed(PNG).status_code == 200, "embeddings need no gallery"
        health = service.ask("GET", "/health").json()
        assert health["status"] == "degraded"
        assert health["services"]["gallery"]["reason"] == reason
        assert file.read_bytes() == before
        with monkeypatch.context() as patched:  # as long as it is as it was, it is not read again
            patched.setattr(service.parts.people, "_load", None)
            service.portal.call(anyio.to_thread.run_sync, service.parts.look)
        mended = Gallery("stub", length=8)
        mended.add("ann", np.ones(8))
        mended.save(file)
        until(lambda: service.ask("GET", "/people").status_code == 200)
        assert counts(service) == (1, 1)


def test_people_reach_no_log(service: Service, everything: pytest.LogCaptureFixture) -> None:
    """Enrolled, asked for, removed: their ids stay out of every line."""
    service.enrol("pl4nted", 10)
    for method in ("GET", "DELETE", "GET"):
        service.ask(method, "/people/pl4nted")
    service.ask("GET", "/people/pl4nted%20bad")
    assert "pl4nted" not in everything.text
