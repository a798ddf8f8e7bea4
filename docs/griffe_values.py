"""Tells the reader of sources behind the reference that our own `dataclass` makes dataclasses, so options are seen."""

from __future__ import annotations

from typing import Any

from griffe import Alias, Extension, Module


class Values(Extension):
    """Reads `dataclass` and `field`, imported from a module of this package, as the standard library's."""

    def on_module_members(self, *, mod: Module, **_: Any) -> None:
        for name in ("dataclass", "field"):
            member = mod.members.get(name)
            if isinstance(member, Alias) and member.target_path.startswith("resilient_faces."):
                member.target_path = f"dataclasses.{name}"
