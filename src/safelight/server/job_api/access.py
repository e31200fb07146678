"""Who may use the server: holders of a token, and no pages of other sites."""

import hmac
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from urllib.parse import urlsplit

from safelight.server.job_api.problem import Refusal

_SCHEME = "bearer "
_OWN = ("same-origin", "none")


class Tokens:
    """The secrets one of which a request must show, in RFC 6750's way; all may pass when there are none."""

    def __init__(self, secrets: Sequence[str]) -> None:
        self._secrets = [secret.encode() for secret in secrets]

    def check(self, headers: Mapping[str, str]) -> None:
        """Raises: Refusal."""
        if not self._secrets:
            return
        shown = headers.get("authorization", "")
        if not shown:
            raise _refused("a token is needed", "Bearer")
        is_bearer = shown[: len(_SCHEME)].lower() == _SCHEME
        token = shown[len(_SCHEME) :].strip().encode() if is_bearer else b""
        if sum(hmac.compare_digest(token, secret) for secret in self._secrets) == 0:  # each, always
            raise _refused("the token is not valid", 'Bearer error="invalid_token"')


def check_origin(headers: Mapping[str, str]) -> None:
    """Refuse what a browser sends on behalf of a page of another site: it needs no answer to do harm.

    Browsers say so in `Sec-Fetch-Site`, or else name that site in `Origin` (Fetch standard, 2.2.7 and 3.2).
    Raises: Refusal.
    """
    site, origin = headers.get("sec-fetch-site"), headers.get("origin")
    if site in _OWN or (site is None and origin is None):
        return
    if site is None and origin is not None and _authority(origin) == headers.get("host"):
        return
    raise Refusal(HTTPStatus.FORBIDDEN, "requests from pages of other sites are not heeded")


def _authority(origin: str) -> str | None:
    try:
        return urlsplit(origin).netloc
    except ValueError:
        return None


def _refused(message: str, challenge: str) -> Refusal:
    return Refusal(HTTPStatus.UNAUTHORIZED, message, told=(("WWW-Authenticate", challenge),))
