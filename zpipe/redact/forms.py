"""Secrets by their form: access tokens, passwords in URLs, and what follows a secret-like name in a text."""

import re
from binascii import Error as Undecodable
from collections.abc import Callable

from zpipe.redact.names import HIDDEN, is_secret_name, is_shown

_Replacement = str | Callable[[re.Match[str]], str]

_NO_VALUES = ("", "null", "none", "true", "false", "bearer", "basic", HIDDEN)
_VALUE = r"(?:\"(?:[^\"\\]|\\.)*\"|'(?:[^'\\]|\\.)*'|[^\s\"',;&{}\[\]]+)"


def _after_name(match: re.Match[str]) -> str:
    name, between, value = match["name"], match["between"], match["value"]
    if not is_secret_name(name) or value.strip("\"'").lower() in _NO_VALUES or _begins_reference(match):
        return match[0]
    quote = value[0] if value[0] in "\"'" else ""
    return f"{name}{between}{quote}{HIDDEN}{quote}"


def _of_variable(match: re.Match[str]) -> str:
    value = match["value"]
    if is_shown(match["name"], value.strip("\"'")) or _begins_reference(match):
        return match[0]
    return f"{match['before']}{HIDDEN}"


def _begins_reference(match: re.Match[str]) -> bool:
    """Whether the value is `${oc.env:NAME}`, of which the pattern takes the `$` alone."""
    return match.string.startswith("${oc.env:", match.start("value"))


def _basic(match: re.Match[str]) -> str:
    """Words may follow `basic` too; a user and a password in base64 contain a colon."""
    from base64 import b64decode

    try:
        is_login = b":" in b64decode(match[2], validate=True)
    except (Undecodable, ValueError):
        is_login = False
    return f"{match[1]}{HIDDEN}" if is_login else match[0]


_PATTERNS: tuple[tuple[str, _Replacement], ...] = (
    (r"(?<=://)([^\s/:@\"']*):[^\s\"']*@", rf"\1:{HIDDEN}@"),
    (r"(?i)(https?://)[^\s/:@\"']+@", rf"\1{HIDDEN}@"),
    (r"(?i)([?&;](?:sig|x-amz-[\w-]+|x-goog-[\w-]+)=)[^&\s\"']*", rf"\1{HIDDEN}"),
    (
        r"\b(?:hf_\w{16,}|api_org_\w{16,}|gh[pousr]_\w{16,}|github_pat_\w{16,}|glpat-[\w-]{16,}|sk-[\w-]{20,}"
        r"|[sr]k_(?:live|test)_\w{10,}|xox[abprs]-[\w-]{10,}|A(?:KIA|SIA)[0-9A-Z]{16}|dapi[0-9a-f]{32}"
        r"|AIza[\w-]{30,}|ya29\.[\w-]{10,}|npm_\w{30,}|pypi-[\w-]{16,}|eyJ[\w-]{5,}\.[\w-]+\.[\w-]*)",
        HIDDEN,
    ),
    (r"(hooks\.slack\.com/services/)\S+", rf"\1{HIDDEN}"),
    (r"(?i)((?:account|sharedaccess|endpoint)\w{0,20}(?:key|signature)=)[^;\s\"']+", rf"\1{HIDDEN}"),
    (r"(?s)(-----BEGIN [A-Z ]*PRIVATE KEY-----).*?(-----END [A-Z ]*-----|$)", rf"\1{HIDDEN}\2"),
    (r"(?i)\b(bearer\s+|authorization[\"']?\s*[:=]\s*[\"']?\w+\s+)[\w.~+/=-]{8,}", rf"\1{HIDDEN}"),
    (r"(?i)\b(basic\s+)([\w+/]{8,}={0,2})", _basic),
    (r"(\s(?:-u|--user)[ =])([^\s:]+):\S+", rf"\1\2:{HIDDEN}"),
    (r"(\slogin\s+\S+\s+password\s+)\S+", rf"\1{HIDDEN}"),
    (r"(?i)((?:^|\s)--?[\w-]*(?:password|passwd|token|secret|api-key)[ =])(?![=\s])\S+", rf"\1{HIDDEN}"),
    (r"(?i)\b(password for [\w@.-]+: +)\S+", rf"\1{HIDDEN}"),
    (r"(?i)\b(passwords? +[\"'])[^\"'\s]+(?=[\"'])", rf"\1{HIDDEN}"),
    (rf"(?P<before>\blauncher\.env\.(?P<name>\w+)=)(?P<value>{_VALUE})", _of_variable),
    (r"(\blauncher\.env=)\{[^}]*\}?", rf"\1{HIDDEN}"),
    (rf"(?<![\w.-])(?P<name>[\w.-]+)(?P<between>[\"']?\s*[=:]\s*(?!//))(?P<value>{_VALUE})", _after_name),
)
"""`re` compiles each when it is first used, and keeps it."""

# fmt: off
_STEMS = (
    "://", "pass", "pwd", "secret", "cred", "key", "token", "bearer", "auth", "sig", "x-amz", "x-goog",
    "basic", "hf_", "api_org", "ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat", "glpat", "sk-",
    "k_live", "k_test", "xox", "akia", "asia", "dapi", "aiza", "ya29", "npm_", "pypi-", "eyj", "hooks.",
    "private", "-u ", "--user", "launcher.env", "jwt", "cookie", "webhook", "connection", "pin", "pat=",
    "pat:", "_pat", "sas", "licen",
)
# fmt: on
"""Every text that the patterns match contains one of these, in lower case."""


def without_secret_forms(text: str) -> str:
    """The text with `***` for everything that looks like a secret."""
    lowered = text.lower()
    if not any(stem in lowered for stem in _STEMS):
        return text
    for pattern, replacement in _PATTERNS:
        text = re.sub(pattern, replacement, text)
    return text
