"""Every statement of the configuration language, one module per family.

Importing this package registers them all; a new module is added to the list below.
"""

from safelight.statements import (
    cache,
    clients,
    endpoint,
    header,
    jobs,
    output,
    paths,
    process,
    purge,
    source,
    store,
    validate,
)
from safelight.statements.registry import REGISTRY

__all__ = [
    "REGISTRY",
    "cache",
    "clients",
    "endpoint",
    "header",
    "jobs",
    "output",
    "paths",
    "process",
    "purge",
    "source",
    "store",
    "validate",
]
