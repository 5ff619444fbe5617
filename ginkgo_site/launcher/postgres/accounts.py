"""The operating system user that runs the embedded server, and the folders that it can enter.

PostgreSQL refuses to run as root, so a start as root runs it as a user that has no entry in the
password database and runs nothing else.
"""

from __future__ import annotations

import os
import pwd
import subprocess
from pathlib import Path

from ginkgo_site.launcher.errors import StartupError
from ginkgo_site.launcher.spawn import Account, name_of

#: systemd leaves 60706 to 61183 to nobody; see also portfolios/runtime/unprivileged.py.
POSTGRES_UID = 60906


def account_for(base: Path) -> Account | None:
    """Return the user who shall run the server with its data in `base`; None: the current user."""
    if os.geteuid() != 0:
        return None
    if base.exists():
        found = base.stat()
        # Data of a person who also starts without root keeps that person as its owner. In earlier
        # releases the owner was `nobody`, and a user without a name is no person.
        is_person = name_of(found.st_uid) not in ("nobody", str(found.st_uid))
        if is_person and found.st_uid not in (0, POSTGRES_UID):
            return Account(found.st_uid, found.st_gid)
    return Account(POSTGRES_UID, POSTGRES_UID)


def with_a_name(account: Account | None) -> Account | None:
    """Return `account`, or `nobody` if it has no name, without which initdb refuses to run.

    Raise StartupError if there is no `nobody` either.
    """
    if account is None or account.uid != POSTGRES_UID:
        return account
    try:
        nobody = pwd.getpwnam("nobody")
    except KeyError:
        raise StartupError(
            "PostgreSQL refuses to run as root, and there is no user `nobody` here to run it as: "
            "start Ginkgo as another user, or set DATABASE_URL to a server of your own."
        ) from None
    return Account(nobody.pw_uid, nobody.pw_gid)


def give_away(folder: Path, account: Account) -> None:
    """Make `account` the owner of the folder and everything in it."""
    for path in (folder, *folder.rglob("*")):
        os.chown(path, account.uid, account.gid, follow_symlinks=False)


def make_private_folder(folder: Path, account: Account | None) -> None:
    """Create `folder` with mode 700, owned by the account (None: the current user).

    Raise StartupError if another user than root owns it: in /tmp anyone can create it first.
    """
    folder.mkdir(mode=0o700, exist_ok=True)
    owner = account.uid if account else os.geteuid()
    found = folder.lstat()
    if found.st_uid != owner:
        if os.geteuid() != 0 or found.st_uid != 0:
            raise StartupError(
                f"{folder} belongs to user {name_of(found.st_uid)}, not to "
                f"{name_of(owner)}: remove it, or choose another folder with GINKGO_HOME."
            )
        os.chown(folder, owner, account.gid if account else -1)
    folder.chmod(0o700)


def can_enter(folder: Path, account: Account | None) -> bool:
    """Return whether the account can enter `folder`, by trying it."""
    if account is None:
        return True
    tried = subprocess.run(
        ["/bin/sh", "-c", 'cd "$1" 2>/dev/null', "sh", str(folder)],
        cwd="/",
        user=account.uid,
        group=account.gid,
        extra_groups=[],
        check=False,
    )
    return tried.returncode == 0
