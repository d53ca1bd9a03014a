"""Does an error prove that a request was never sent? Then its call costs nothing; in doubt it was sent.

Known by the names of classes, so that no HTTP library has to be imported. Proof is a connection that was never made: it
was refused, its name could not be resolved, its handshake failed, connecting took too long. An error that wraps one
carries it as its cause. The context of an error ("during handling of ...") counts only for the libraries' own
wrappers, because a program that failed to connect may well have sent something else in its `except` block.

A client that repeats requests by itself hides earlier attempts from this: switch its retries off.
"""

PROOFS = frozenset(
    {
        "ConnectionRefusedError",
        "gaierror",
        "ConnectError",  # httpx and httpcore: also for TLS, which fails before anything is sent
        "ConnectTimeout",
        "NewConnectionError",  # urllib3
        "NameResolutionError",
        "ConnectTimeoutError",
        "SSLCertVerificationError",
        "ClientConnectorError",  # aiohttp
    }
)
WRAPPERS = frozenset(
    {"APIConnectionError", "APITimeoutError", "ConnectionError", "MaxRetryError", "SSLError", "URLError"}
)
DOUBTS = frozenset({"ConnectionResetError", "BrokenPipeError", "ProtocolError", "RemoteDisconnected", "IncompleteRead"})
LONGEST = 20


def proves_unsent(error: BaseException) -> bool:
    """Whether nothing can have reached the provider."""
    proven = False
    for link in _chain(error):
        name = type(link).__name__
        if name.startswith(("Read", "Write", "Remote")) or name in DOUBTS:
            return False
        proven = proven or name in PROOFS
    return proven


def _chain(error: BaseException) -> list[BaseException]:
    chain = [error]
    while len(chain) < LONGEST:
        last = chain[-1]
        implicit = type(last).__name__ in WRAPPERS | PROOFS and not last.__suppress_context__
        after = last.__cause__ or (last.__context__ if implicit else None)
        if after is None:
            break
        chain.append(after)
    return chain
