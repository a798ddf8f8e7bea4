"""The page "Recognise people in frames": the generated model pack, a gallery, a service without its model."""

import importlib.util
import os
import tempfile
from pathlib import Path

if importlib.util.find_spec("insightface") is None:
    import pytest

    pytest.skip("the extra `insightface` is not installed")

from resilient_faces.testing import card_pack

rest = tempfile.TemporaryDirectory()
before = Path.cwd()
os.chdir(rest.name)
pack = Path("cards")
photos = {"ann": card_pack.photo(1), "bob": card_pack.photo(2)}
frame = card_pack.scene([card_pack.Placed(1, (100, 100), 400)])

# --8<-- [start:service]
from resilient_faces.adapters.insightface import FrameRecogniser

recogniser = FrameRecogniser(pack, criticality="critical")
print(recogniser.health().status)  # "degraded" if the pack is not there: the service runs all the same
# --8<-- [end:service]
assert recogniser.health().reason == "insightface.pack_missing"
card_pack.write_pack(pack)

# --8<-- [start:load]
recogniser.load()  # or wait: it looks every 10 s
# --8<-- [end:load]
assert recogniser.health().status == "healthy"

# --8<-- [start:enrol]
from resilient_faces.adapters.gallery import Gallery
from resilient_faces.adapters.insightface import embedding_of_photo

engine = recogniser.engine  # None for as long as there is no model
gallery = Gallery(engine.space, threshold=0.5, margin=0.05)
for name, photo in photos.items():
    embedding, _ = embedding_of_photo(engine, photo)
    gallery.add(name, embedding)
# --8<-- [end:enrol]

# --8<-- [start:recognise]
sightings = recogniser.recognise(frame, gallery)  # a uint8 array of shape (height, width, 3), BGR
for one in sightings.found:
    print(one.face.box, one.match.identity, one.match.cosine)
if sightings.reason:  # such as "insightface.pack_missing"
    print("there may have been more to see")
# --8<-- [end:recognise]
assert [one.match.identity for one in sightings.found] == ["ann"]

# --8<-- [start:file]
from resilient_faces.adapters.gallery import GalleryError

gallery.save("students.gallery")
try:
    gallery = Gallery.load("students.gallery", space=engine.space)
except GalleryError as error:
    print(error.reason)  # missing, damaged, newer or space; the file is left as it is
# --8<-- [end:file]
assert gallery.identities() == ("ann", "bob")

# --8<-- [start:forget]
gallery.remove("ann")
gallery.compact()  # out of memory, too
gallery.save("students.gallery")  # and out of the file
# --8<-- [end:forget]
assert recogniser.recognise(frame, gallery).found[0].match.identity is None

# --8<-- [start:measure]
from itertools import combinations


def cosine(one: bytes, other: bytes) -> float:
    """How near two photographs of one face each are."""
    rows = [embedding_of_photo(engine, photo)[0] for photo in (one, other)]
    return float(rows[0] @ rows[1])


strangers = [cosine(one, other) for one, other in combinations(photos.values(), 2)]
print(f"the nearest strangers: {max(strangers):.2f}")  # the threshold must be above it
# --8<-- [end:measure]
assert max(strangers) < 0.5
os.chdir(before)
rest.cleanup()
