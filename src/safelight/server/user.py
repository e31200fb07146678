"""The user that HTTP and image workers run as, when root has started the server."""

import os
import pwd
import stat
from collections.abc import Iterable
from contextlib import suppress

from safelight.errors import ConfigError

_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK


def find_user(name: str) -> pwd.struct_passwd | None:
    """Whom workers have to become, None when they are that user anyway.

    Raises: ConfigError for a user that does not exist, or is not ours to become.
    """
    try:
        user = pwd.getpwnam(name)
    except KeyError:
        raise ConfigError(f"there is no user '{name}'") from None
    if user.pw_uid == os.geteuid():
        return None
    if os.geteuid() != 0:
        raise ConfigError(f"only root can run workers as user '{name}'")
    return user


def hand_over(files: Iterable[str], user: pwd.struct_passwd) -> None:
    """Make the files if need be, and give them to `user`: workers open them again by themselves.

    What is no plain file is left alone, and what cannot be made is for its user to complain of.
    """
    for file in files:
        with suppress(OSError):
            descriptor = os.open(file, _FLAGS, 0o644)
            try:
                if stat.S_ISREG(os.fstat(descriptor).st_mode):
                    os.fchown(descriptor, user.pw_uid, user.pw_gid)
            finally:
                os.close(descriptor)
