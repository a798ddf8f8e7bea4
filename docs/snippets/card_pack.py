"""The generated model pack through the real InsightFace."""

import importlib.util
import os
import tempfile
from pathlib import Path

if importlib.util.find_spec("insightface") is None:
    import pytest

    pytest.skip("the extra `insightface` is not installed")

directory = tempfile.TemporaryDirectory()
before = Path.cwd()
os.chdir(directory.name)
# --8<-- [start:cards]
from pathlib import Path

from resilient_faces.adapters.insightface import InsightFaceEngine, embedding_of_photo
from resilient_faces.testing import card_pack

engine = InsightFaceEngine(card_pack.write_pack(Path("cards")))
ann, _ = embedding_of_photo(engine, card_pack.photo(1))
ann_again, _ = embedding_of_photo(engine, card_pack.photo(1, side=320))
bob, _ = embedding_of_photo(engine, card_pack.photo(2))
assert engine.similarity(float(ann @ ann_again)) > 80
assert engine.similarity(float(ann @ bob)) < 80
# --8<-- [end:cards]
os.chdir(before)
directory.cleanup()
