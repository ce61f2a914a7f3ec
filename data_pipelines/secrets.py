"""Keep passwords and keys in URLs, commands and headers out of what is shown and stored."""

import re
import sys
import traceback
from types import TracebackType

_HIDDEN = "***"
_URL = re.compile(r"([a-z][a-z0-9+.-]{0,30})://([^\s'\"<>]+)", re.IGNORECASE)
_PORT = re.compile(r"[^:@/?#]*:\d{1,5}(?=/)")
"""The beginning of a URL without user information whose path holds an `@`: host, colon, port."""
_ALONE = re.compile(r"(?:git\+)?https?", re.IGNORECASE)
"""Schemes in which a name alone before the `@` is a token, and not a database's user."""

_NAME = (
    r"(?:[\w.-]{0,64}(?:secret|token|passw(?:or)?d|passphrase|credentials?|api[_-]?key|private[_-]?key|signature"
    r"|access[_-]?key(?:[_-]?id)?)|(?:x[_-])?auth(?:orization)?|awsaccesskeyid)"
)
"""What a variable, a parameter or an option that holds a secret is called."""
_VALUE = r"(?:\"[^\"]*\"|'[^']*'|[^&\s'\";]+)"
_PARAMETER = re.compile(rf"(?<![\w.-])({_NAME}=){_VALUE}", re.IGNORECASE)
_QUERY = re.compile(r"(?<=[?&;#])((?:key|sig|pass|pwd)=)[^&\s'\"#]+", re.IGNORECASE)
_OPTION = re.compile(rf"(?<!\S)(--{_NAME}[ ]+){_VALUE}", re.IGNORECASE)
_JSON = re.compile(rf"([\"']{_NAME}[\"']\s*:\s*)(?:\"[^\"]*\"|'[^']*')", re.IGNORECASE)
_HEADER = re.compile(
    r"(?<![\w-])((?:proxy-)?authorization|x-[\w-]{0,64}(?:key|token|secret)|(?:private|job|deploy)-token|(?:set-)?cookie)"
    r"(\s*:\s*)[^\r\n'\"]+",
    re.IGNORECASE,
)
_USER = re.compile(r"(?<!\S)(-u\s*|--(?:proxy-)?user[ =])([\"']?)[^\s:'\"]+:[^\s'\"]+\2")
"""How curl and wget are given a user's name and password."""
_SHAPES = re.compile(
    r"\b(?:(?:AKIA|ASIA)[0-9A-Z]{16}|gh[pousr]_\w{20,}|github_pat_\w{20,}|hf_[A-Za-z0-9]{20,}|glpat-[\w-]{20,})\b"
    r"|(?<=\bBearer )[\w.~+/=-]{8,}"
)
"""Keys that are known by their looks, wherever they stand."""


def hide_secrets(text: str) -> str:
    """Return a text in which `***` stands for user information in URLs and for the values that sign or open something.

    Those are parameters of URLs, variables and options of commands, HTTP headers, and keys of known forms. A secret
    that is none of these cannot be recognised.

    Args:
        text: a URL, a command, a line of a log, a traceback, or JSON.
    """
    text = _URL.sub(_without_user, text)
    text = _HEADER.sub(rf"\1\2{_HIDDEN}", text)
    for pattern in (_PARAMETER, _QUERY, _OPTION):
        text = pattern.sub(rf"\1{_HIDDEN}", text)
    text = _JSON.sub(rf'\1"{_HIDDEN}"', text)
    return _SHAPES.sub(_HIDDEN, _USER.sub(rf"\1{_HIDDEN}", text))


def _without_user(found: re.Match[str]) -> str:
    """Return a URL without its user information, which ends at the last `@` that can end it."""
    scheme, rest = found[1], found[2]
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    if "@" in authority:
        user, place = authority.rsplit("@", 1)
        rest = place + rest[len(authority) :]
        if ":" not in user and not _ALONE.fullmatch(scheme):
            return found[0]
        return f"{scheme}://{_HIDDEN}@{rest}"
    # A password with `/`, `?` or `#` in it, which some clients take: all from the colon to the `@` belongs to it.
    if "@" in rest and ":" in authority and not (_ALONE.fullmatch(scheme) and _PORT.match(rest)):
        return f"{scheme}://{_HIDDEN}@{rest.split('@', 1)[1]}"
    return found[0]


def print_line(text: str) -> None:
    """Print a line for a person on standard error, without the secrets in it."""
    print(f"bigtrain: {hide_secrets(text)}", file=sys.stderr, flush=True)


def hide_in_tracebacks() -> None:
    """Let the traceback of an exception that ends this process show no secrets."""
    sys.excepthook = _print_traceback


def _print_traceback(kind: type[BaseException], error: BaseException, where: TracebackType | None) -> None:
    print(hide_secrets("".join(traceback.format_exception(kind, error, where))), end="", file=sys.stderr)


def refuse_secrets(url: str, instead: str) -> str:
    """Return a URL that holds no secret, for configs, which are copied everywhere.

    Args:
        url: to look at.
        instead: where the secret belongs.

    Raises:
        ValueError: it holds one.
    """
    if hide_secrets(url) != url:
        raise ValueError(
            f"{hide_secrets(url)} contains a password or a key, but configs are copied to many places: {instead}"
        )
    return url
