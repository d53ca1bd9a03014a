"""Who did what only a person may do, as the journal names them."""

import getpass


def person() -> str:
    """The login name of this process."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container whose user has no name
        return "somebody"
