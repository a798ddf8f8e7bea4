"""The reference pipeline: photos go from the object store through a queue and a paced consumer into face rows."""
