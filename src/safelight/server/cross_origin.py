"""Cross-origin requests: what answers tell browsers, and their questions in advance (Fetch standard, 3.3)."""

from dataclasses import replace

from safelight.blob import EMPTY
from safelight.model import Answer, Api, Endpoint, Facts, Request
from safelight.server.exchange import Exchange

_ORIGIN = "origin"
_METHOD = "access-control-request-method"
_NO_CONTENT = 204
_ASKED_ABOUT = "Origin, Access-Control-Request-Method, Access-Control-Request-Headers"


def always_told(endpoint: Endpoint, request: Request) -> Facts:
    """Headers of every answer of `endpoint`: what it depends on, and who else may read it."""
    if not endpoint.varies_by and endpoint.cross_origin is None:
        return ()
    vary: Facts = (("Vary", ", ".join(endpoint.varies_by)),) if endpoint.varies_by else ()
    granted = endpoint.cross_origin.grant(request.headers.get(_ORIGIN)) if endpoint.cross_origin else ()
    return (*vary, *granted)


def preflight_answer(api: Api, exchange: Exchange, request: Request) -> Answer | None:
    """The answer to a browser that asks what it may send; None when nobody asks, or no endpoint would say.

    Raises: Forbidden, and what the matchers of endpoints raise.
    """
    method, origin = request.headers.get(_METHOD), request.headers.get(_ORIGIN)
    if request.method != "OPTIONS" or method is None or origin is None:
        return None
    found = api.match(replace(request, method=method))
    if found is None or found[0].cross_origin is None:
        return None
    exchange.tell((("Vary", _ASKED_ABOUT),))
    facts = found[0].cross_origin.preflight(origin, method)
    return Answer(EMPTY, "text/plain", _NO_CONTENT, facts=facts)
