"""Tells webhooks that jobs have ended, in signed messages (Standard Webhooks 1.0.0, standardwebhooks.com)."""

import base64
import hashlib
import hmac
import time
from collections.abc import AsyncIterator
from datetime import datetime

import msgspec
from msgspec import Struct

from safelight.errors import ConfigError
from safelight.jobs import http
from safelight.jobs.failure import TransferError, within
from safelight.jobs.location import HTTP, parse_location
from safelight.jobs.policy import Policy
from safelight.jobs.record import JobView, Notice

MIN_KEY_BYTES = 16
_ENCODED = "whsec_"


class Message(Struct, frozen=True):
    """What is sent. `type` is `job.done`, `job.dead` or `job.cancelled`, `timestamp` when the job ended."""

    type: str
    timestamp: datetime | None
    data: JobView


def signing_key(secret: str) -> bytes:
    """The key that a secret stands for: base64 after `whsec_`, as the standard writes it, else its UTF-8.

    Raises: ConfigError.
    """
    if not secret.startswith(_ENCODED):
        return secret.encode()
    try:
        key = base64.b64decode(secret.removeprefix(_ENCODED), validate=True)
    except ValueError as error:
        raise ConfigError(f"expected base64 after '{_ENCODED}' in the secret of webhooks") from error
    if len(key) < MIN_KEY_BYTES:
        raise ConfigError(f"expected at least {MIN_KEY_BYTES} bytes in base64 after '{_ENCODED}'")
    return key


async def notify(url: str, message_id: str, notice: Notice, key: bytes, policy: Policy) -> None:
    """Send the notice to `url`; any answer of 2xx takes it, redirects are not followed.

    `message_id` and body are the same in every attempt, so that a receiver knows what it has had; the
    signature is fresh, because receivers refuse old ones.

    Raises: TransferError. Nothing was sent when the policy does not admit the webhook.
    """
    location = parse_location(url)
    if location.scheme not in HTTP:
        raise TransferError("a webhook must be an http or https URL")
    reach = policy.admit_webhook(location)
    job = notice.job
    body = msgspec.json.encode(Message(f"job.{job.state}", job.ended_at, job))

    async def pieces() -> AsyncIterator[bytes]:
        yield body

    headers = {"Content-Type": "application/json", "Content-Length": str(len(body))}
    headers |= _signature(message_id, int(time.time()), body, key)
    async with within(policy.deliver_timeout_s):
        request = http.Request("POST", location, headers, pieces)
        async with http.exchange(request, reach, policy) as response:
            if not response.is_success:
                raise http.refusal(response, location)


def _signature(message_id: str, now_s: int, body: bytes, key: bytes) -> dict[str, str]:
    """Headers that prove who sent the message, and when."""
    signed = b".".join((message_id.encode(), str(now_s).encode(), body))
    mac = hmac.new(key, signed, hashlib.sha256).digest()
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(now_s),
        "webhook-signature": f"v1,{base64.b64encode(mac).decode()}",
    }
