"""Keep passwords and keys in URLs out of what is written and said."""

import re

_PASSWORD = re.compile(r"(?<=://)[^/\s@:]*:[^/\s@]+(?=@)")
_PARAMETER = re.compile(
    r"(?i)(?<=[?&;])((?:x-amz-(?:signature|credential|security-token)|x-goog-(?:signature|credential)|awsaccesskeyid"
    r"|signature|sig|[a-z_-]*token|api_?key|key|secret|password)=)[^&\s'\"]+"
)


def hide_secrets(text: str) -> str:
    """Replace `user:password` in URLs, and the values of parameters that sign or open something, by `***`."""
    return _PARAMETER.sub(r"\1***", _PASSWORD.sub("***", text))


def refuse_secrets(url: str, instead: str) -> str:
    """Return a URL that holds no secret, for configs, which are copied everywhere.

    Args:
        url: to look at.
        instead: where the secret belongs.

    Raises:
        ValueError: it holds one.
    """
    if hide_secrets(url) != url:
        raise ValueError(f"{hide_secrets(url)} holds a password or a key, and configs are copied everywhere: {instead}")
    return url
