"""What a store's library says of a failure, as a person reads it."""

import pytest

from longwatch.store.archive.refused import understood

AT = "http://127.0.0.1:9000"
GET = f"Generic S3 error: Error performing GET {AT}/archives?list-type=2 in 1.27s, after 5 retries, max_retries: 5, "
STATUS = "retry_timeout: 30s  - Server returned non-2xx status code: "


@pytest.mark.parametrize(
    ("said", "why", "hint"),
    [
        (
            GET + "retry_timeout: 30s  - HTTP error: error sending request\n\nkind: Connect,",
            f"{AT} cannot be reached, asked 6 times in 1.3 s",
            "Check that it is up, and that AWS_ENDPOINT_URL leads to it",
        ),
        (
            GET + "retry_timeout: 30s  - HTTP error: error sending request\n\nkind: Timeout,",
            f"{AT} does not answer, asked 6 times in 1.3 s",
            "Wait until the store is well",
        ),
        (
            GET
            + STATUS
            + "503 Service Unavailable: <Error>\n <Code>SlowDown</Code>\n <Message>Slow down.</Message></Error>",
            f"{AT} answers 503 Service Unavailable (SlowDown: Slow down.), asked 6 times in 1.3 s",
            "Wait until the store is well",
        ),
        (
            GET + STATUS + "403 Forbidden: <Error><Code>AccessDenied</Code><Message>No.</Message></Error>",
            f"{AT} answers 403 Forbidden (AccessDenied: No.): it does not take the key",
            "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
        ),
        (
            GET + STATUS + '404 Not Found: <?xml version="1.0"?>\n<Error><Code>NoSuchBucket</Code></Error>',
            f"there is no bucket archives at {AT}",
            "Make the bucket, or correct [archive] to.",
        ),
        (
            GET + STATUS + "404 Not Found: <Error><Code>NoSuchKey</Code><Message>Gone.</Message></Error>",
            f"{AT} answers 404 Not Found (NoSuchKey: Gone.)",
            "Check the bucket",
        ),
        (
            "Generic S3 error: Error performing PUT http://169.254.169.254/latest/api/token in 6ms - error sending request",
            f"there is no key for {AT} in the environment, and this machine has none of its own",
            "Set AWS_ACCESS_KEY_ID",
        ),
        ("Something else\nDebug source: kind", "Something else", "Check the bucket, its address and the keys"),
    ],
)
def test_each_refusal_says_what_happened_and_what_to_do(said: str, why: str, hint: str) -> None:
    found = understood(said, bucket="archives", address=AT)
    assert found.why == why
    assert found.hint.startswith(hint)
    assert found.hint.endswith("Nothing was taken out of the state that is not in a verified segment.")
