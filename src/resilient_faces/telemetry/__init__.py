"""Listeners: what becomes of events."""

from resilient_faces.telemetry.logs import JsonFormatter, log_event

__all__ = ["JsonFormatter", "log_event"]
