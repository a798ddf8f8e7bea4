// The JavaScript SDK against the endpoint: each step's outcome, as one JSON object on standard output.
import { readFileSync } from "node:fs";
import {
  RekognitionClient, CompareFacesCommand, CreateCollectionCommand, IndexFacesCommand, ListCollectionsCommand,
  ListFacesCommand, SearchFacesByImageCommand,
} from "@aws-sdk/client-rekognition";

const [endpoint, folder, collection] = process.argv.slice(2);
const client = new RekognitionClient({
  region: "us-west-2",
  endpoint,
  maxAttempts: 1,
  credentials: { accessKeyId: "local", secretAccessKey: "local" },
});
const image = (name) => ({ Bytes: readFileSync(`${folder}/${name}`) });
const found = {};

async function step(name, command, shown) {
  try {
    const answer = await client.send(command);
    found[name] = { ok: shown(answer), requestId: Boolean(answer.$metadata.requestId) };
  } catch (error) {
    found[name] = {
      error: error.name, message: error.message, fault: error.$fault, status: error.$metadata?.httpStatusCode,
    };
  }
}

const matches = (answer) => answer.FaceMatches.map((match) => match.Face.ExternalImageId ?? match.Similarity);
const search = (name, id = collection) => new SearchFacesByImageCommand({ CollectionId: id, Image: image(name) });
const compare = (a, b) => new CompareFacesCommand({ SourceImage: image(a), TargetImage: image(b) });

await step("create", new CreateCollectionCommand({ CollectionId: collection }), (a) => a.StatusCode);
await step("create again", new CreateCollectionCommand({ CollectionId: collection }), (a) => a.StatusCode);
await step(
  "index",
  new IndexFacesCommand({ CollectionId: collection, Image: image("card-1.jpg"), ExternalImageId: "one" }),
  (a) => a.FaceRecords.length,
);
await step("list", new ListFacesCommand({ CollectionId: collection }), (a) => a.Faces.map((f) => f.ExternalImageId));
await step("same identity", search("card-1-again.png"), matches);
await step("another identity", search("card-2.jpg"), matches);
await step("compare same", compare("card-1.jpg", "card-1-again.png"), (a) => a.FaceMatches.length);
await step("compare others", compare("card-1.jpg", "card-2.jpg"), (a) => [a.FaceMatches.length, a.UnmatchedFaces.length]);
await step("no face to search", search("plain.jpg"), matches);
await step("no face to compare", compare("plain.jpg", "card-1.jpg"), matches);
await step("too large", search("large.jpg"), matches);
await step("wrong format", search("image.gif"), matches);
await step("unknown collection", search("card-1.jpg", "nowhere"), matches);
await step("within the quota", new ListCollectionsCommand({}), (a) => a.CollectionIds.length > 0);
await step("over the quota", new ListCollectionsCommand({}), (a) => a.CollectionIds.length > 0);
console.log(JSON.stringify(found));
