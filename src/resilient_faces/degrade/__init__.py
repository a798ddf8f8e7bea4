"""Graceful degradation: fallbacks, chains of alternatives, the last good answer, degraded services and health."""

from resilient_faces.degrade.chain import Answer, Chain, chain
from resilient_faces.degrade.fallback import Fallback, with_fallback
from resilient_faces.degrade.handlers import handle_cognito_unavailable, handle_dynamodb_unavailable
from resilient_faces.degrade.services import (
    Criticality,
    GracefulDegradationManager,
    Health,
    ServiceHealth,
    Services,
    services,
)
from resilient_faces.degrade.stale import LastGood

__all__ = [
    "Answer",
    "Chain",
    "Criticality",
    "Fallback",
    "GracefulDegradationManager",
    "Health",
    "LastGood",
    "ServiceHealth",
    "Services",
    "chain",
    "handle_cognito_unavailable",
    "handle_dynamodb_unavailable",
    "services",
    "with_fallback",
]
