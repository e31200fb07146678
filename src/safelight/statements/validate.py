"""`validate_uri_hmac` and `validate_header_hmac`: refuse requests without a valid signature."""

import hmac
import time
from collections.abc import Callable, Iterator

import structlog

from safelight.config.spec import attribute, value
from safelight.errors import Forbidden
from safelight.model import Counters, Request, RequestState, Resources, Step
from safelight.signing import DEFAULT_DIGEST, canonical_uri, digest_is_supported, signature
from safelight.statements.condition import VariableConditional, when
from safelight.statements.registry import validator

log = structlog.get_logger("safelight.validate")

SignedText = Callable[[Request], str]


class HmacStatement(VariableConditional):
    """Fields that both validators have."""

    secret: str | None = attribute(default=None, help="shared secret; required", example="0f0f0...")
    digest: str = attribute(default=DEFAULT_DIGEST, help="hash function, any name that OpenSSL knows")
    exclude: str = attribute(
        default="", help="comma-separated parameters that are not part of the signed text"
    )
    remove: str | None = attribute(
        default=None,
        help="comma-separated parameters that `query_string_options` omits; default: the signature",
    )
    lockpicks: str = attribute(
        default="", help="comma-separated signatures that are always accepted, with a warning"
    )
    expires: str | None = attribute(
        default=None,
        help="signed parameter that must hold the Unix time until which the URL is valid",
        example="expires",
    )

    def check(self) -> Iterator[str]:
        if self.secret is None or self.tag.attributes.get("secret") is False:
            yield 'no secret key given for validate_hmac (like secret="0f0f0...")'
        if not digest_is_supported(self.digest):
            yield f"digest '{self.digest}' is not supported"
        if self.expires and self.expires in (*_listed(self.exclude), getattr(self, "parameter", "")):
            yield f"parameter '{self.expires}' must be signed, or anybody could change when a URL expires"


@validator("validate_uri_hmac")
class ValidateUriHmac(HmacStatement):
    """Refuse the request unless a query parameter holds the HMAC of the request URI as received."""

    example = 'validate_uri_hmac "hmac" secret="pass123" digest="sha256" exclude="nonce"'

    parameter: str = value("hmac", help="query parameter that holds the signature, in lower-case hex")

    def build(self, resources: Resources) -> Step:
        return when(
            self, HmacValidator(self, self.parameter, lambda request: request.uri, resources.counters)
        )


@validator("validate_header_hmac")
class ValidateHeaderHmac(HmacStatement):
    """Refuse the request unless a query parameter holds the HMAC of a request header's value.

    A client can send any header: the proxy in front must overwrite this one.
    """

    example = 'validate_header_hmac "X-Original-URI" "hmac" secret="pass123"'

    header: str = value("header name", help="request header that holds the signed text")
    parameter: str = value("hmac", help="query parameter that holds the signature, in lower-case hex")

    def build(self, resources: Resources) -> Step:
        return when(self, HmacValidator(self, self.parameter, self._signed_text, resources.counters))

    def _signed_text(self, request: Request) -> str:
        name = self.header.upper().replace("_", "-")
        text = request.headers.get(name.lower())
        if text is None or name in ("CONTENT-TYPE", "CONTENT-LENGTH"):
            raise Forbidden(f"header '{name}' not found in request body for HMAC verificaton")
        return text


class HmacValidator:
    """Compares the given signature with the one of the canonical text, in constant time."""

    def __init__(
        self, declared: HmacStatement, parameter: str, signed_text: SignedText, counters: Counters
    ) -> None:
        self._parameter = parameter
        self._signed_text = signed_text
        self._counters = counters
        self._secret = declared.secret or ""
        self._digest = declared.digest
        self._expires = declared.expires
        self._excluded = [*_listed(declared.exclude), parameter]
        self._removed = [parameter] if declared.remove is None else _listed(declared.remove)
        self._lockpicks = [pick.encode() for pick in _listed(declared.lockpicks)]

    async def run(self, state: RequestState) -> None:
        """Raises: Forbidden."""
        given = state.request.query.get(self._parameter)
        if given is None:
            raise self._refusal(f"HMAC query string parameter '{self._parameter}' not found")
        self._counters.add("total_hmac_validations")
        for key in self._removed:
            state.variables.query.pop(key, None)
        octets = given.encode("utf-8", "surrogateescape")
        if any(hmac.compare_digest(octets, pick) for pick in self._lockpicks):
            self._counters.add("total_lockpick_hmac")
            log.warning("lockpick used", parameter=self._parameter, signature=f"{given[:2]}...")
            return
        self._check_signature(given, octets, state.request)
        self._check_expiry(state.request)
        self._counters.add("total_valid_hmac")

    def _check_signature(self, given: str, octets: bytes, request: Request) -> None:
        try:
            text = canonical_uri(self._signed_text(request), self._excluded)
        except Forbidden as error:
            raise self._refusal(error.message) from error
        if not hmac.compare_digest(octets, signature(text, self._secret, self._digest).encode()):
            self._counters.add("total_invalid_hmac")
            raise self._refusal(f"provided HMAC '{given}' for URI '{text}' is not valid")

    def _check_expiry(self, request: Request) -> None:
        """Only after the signature: the time is then the signer's."""
        if self._expires is None:
            return
        until = request.query.get(self._expires) or ""
        if not (until.isascii() and until.isdigit()) or int(until[:20]) < time.time():
            self._counters.add("total_invalid_hmac")
            raise self._refusal(f"the URL has expired, or has no time in parameter '{self._expires}'")

    def _refusal(self, reason: str) -> Forbidden:
        return Forbidden(f"HMAC URI authentication with digest '{self._digest}' failed: {reason}")


def _listed(text: str) -> list[str]:
    return [item.strip() for item in text.split(",") if item.strip()]
