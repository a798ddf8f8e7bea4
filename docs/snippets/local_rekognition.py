"""The Rekognition-compatible endpoint in this process, with the basic engine."""

from resilient_faces.adapters.local_rekognition import RekognitionServer, RekognitionService
from resilient_faces.adapters.recogniser import choose, skimage_data

server = RekognitionServer(RekognitionService(choose("basic")))
server.start()
url = server.url
photo = (skimage_data() / "astronaut.png").read_bytes()

# --8<-- [start:search]
from resilient_faces.adapters.aws import LocalEndpoint, connect

client = connect("rekognition", region="us-west-2", endpoint=LocalEndpoint(url))
client.create_collection(CollectionId="people")
client.index_faces(CollectionId="people", Image={"Bytes": photo}, ExternalImageId="ann")
found = client.search_faces_by_image(CollectionId="people", Image={"Bytes": photo})
names = [match["Face"]["ExternalImageId"] for match in found["FaceMatches"]]
# --8<-- [end:search]
assert names == ["ann"]
assert found["ResponseMetadata"]["HTTPHeaders"]["x-local-similarity"] == "hint"
client.close()
server.stop()
