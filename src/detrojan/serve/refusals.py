"""What a service answers where it does not answer with the model: a status, a reason, and one sentence."""

from __future__ import annotations

from collections.abc import Mapping

from detrojan.errors import RefusedError

#: the reasons that are counted, each with its HTTP status
STATUS = {
    "malformed": 400,
    "unauthorised": 401,
    "not found": 404,
    "slow": 408,
    "too large": 413,
    "encoding": 415,
    "unknown host": 421,
    "backdoored": 422,
    "upstream": 502,
    "busy": 503,
}


def refused(reason: str, text: str, headers: Mapping[str, str] | None = None) -> RefusedError:
    """Return the refusal of a request.

    Args:
        reason: one of `STATUS`.
        text: what was expected and what came.
        headers: of the response.

    """
    return RefusedError(reason, text, STATUS[reason], headers or {})


def malformed(text: str) -> RefusedError:
    """Return the refusal of a body that cannot be read."""
    return refused("malformed", text)
