"""The engine: how a call runs. Nothing here is public; `resilient_faces.flows` shows what writers of policies need."""
