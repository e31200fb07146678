"""What tests of the network hold: certificates, and names that resolve as they say."""

import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass
class Certificates:
    """An authority that our TLS trusts, and a certificate of it for 127.0.0.1 and `origin.test`."""

    context: ssl.SSLContext
    file: Path


@dataclass
class Names:
    """What names resolve to: each look-up takes the next answer, the last one stays."""

    answers: dict[str, list[list[str]]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    def resolve(self, real: Callable[..., Any], host: str, port: int, *rest: Any, **options: Any) -> Any:
        """Stands for `socket.getaddrinfo`, also for names that are known elsewhere."""
        self.asked.append(host)
        if host not in self.answers:
            return real(host, port, *rest, **options)
        answers = self.answers[host]
        addresses = answers.pop(0) if len(answers) > 1 else answers[0]
        return [found for address in addresses for found in real(address, port, type=socket.SOCK_STREAM)]
