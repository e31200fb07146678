"""Local files of jobs: only below the roots that are configured."""

import os
from collections.abc import Sequence
from pathlib import Path

from safelight.jobs.failure import TransferError
from safelight.jobs.location import Location
from safelight.storage.file import FileStorage


def beneath(roots: Sequence[Path], location: Location) -> tuple[FileStorage, str]:
    """The storage of the first root that a `file` location is below, and the key there.

    A relative path is relative to the working directory (reference/imgserve section 6). Links are the
    storage's matter: they may lead to anything below the root.

    Raises: TransferError when it is below none.
    """
    path = Path(os.path.abspath(location.path))  # noqa: PTH100 (`resolve` would follow links)
    for root in roots:
        if path.is_relative_to(root.absolute()) and path != root.absolute():
            return FileStorage(root), str(path.relative_to(root.absolute()))
    raise TransferError(f"'{location.path}' is not below a directory that jobs may use")
