"""Secrets by their name: environment variables, keys and tags whose values are not shown."""

import re

HIDDEN = "***"

_PUBLIC_TOKENS = (
    "eos|bos|pad|unk|sep|cls|mask|image|video|audio|boi|eoi|boa|eoa|special|start|end|stop|prefix|suffix|middle"
    "|fim|extra|new|last|first|next|prev|previous|per|max|min|num|total|by|of|added|document|speech|vision|think"
)
"""Before `token`, these words name a token of a vocabulary, or a count of tokens."""

_WORDS = (
    r"password|passwd|passphrase|passcode|pwd|secret|credential|creds|api_?key|access_?key|private_?key"
    r"|account_?key|connection_?string|webhook|jwt|cookie|authorization"
)
_SECRET_NAME = (
    rf"{_WORDS}|(?:^|[_.-])(?:pass|pat|pin|signing|bearer)\d*$"
    r"|(?:^|[_.-])(?:auth|sas|netrc)(?:$|[_.-])"
    r"|[_-]key\d*$"
    rf"|(?<![a-z])(?<!tok)tokens?\d*(?:$|_write|_read|_admin)"
)
_NO_SECRET = (
    rf"(?:^|[_.-])(?:(?:{_PUBLIC_TOKENS})_tokens?(?:_id|_ids|_type)?|pwd|oldpwd|tokens?_per_\w+|num_\w*tokens?)$"
    r"|^(?:old)?pwd$|^SSH_AUTH_SOCK$|^tokens$|public_?key|key_?(?:file|path)$"
)

_SETTING = (
    r"(?:NCCL|GLOO|OMP|MKL|KMP|OPENBLAS|NUMEXPR|CUDA|CUDNN|CUBLAS|NVIDIA|TORCH\w*|PYTORCH|TRITON|DS|TOKENIZERS"
    r"|TRANSFORMERS|HF_HUB|HF_DATASETS|MLFLOW|PYTHON\w*|LC|LD|XDG|UCX|IB|RDMAV|SLURM|RAY|ACCELERATE|DEEPSPEED|MALLOC"
    r"|HYDRA|ZPIPE)_\w+|PYTHON\w+|PATH|HOME|HF_HOME|TMPDIR|LANG|LANGUAGE|TERM|COLUMNS|NO_COLOR|CC|CXX|CFLAGS"
    r"|CXXFLAGS|LDFLAGS|CPATH|LIBRARY_PATH|MAX_JOBS|RANK|LOCAL_RANK|WORLD_SIZE|MASTER_ADDR|MASTER_PORT|TZ"
)
"""Variables that configure a program; their values help to understand a run."""

_HARMLESS = r"|[0-9.]{1,3}|true|false|yes|no|on|off|null|none|info|debug|warning"


def is_reference(value: str) -> bool:
    """Whether the value only names a variable of the environment: `${oc.env:NAME}`."""
    return re.fullmatch(r"['\"]?\$\{oc\.env:\w+\}['\"]?", value) is not None


def is_secret_name(name: str) -> bool:
    """Whether a variable, key or tag of this name holds a secret."""
    # re compiles a pattern when it is first used, and keeps it.
    if re.search(_NO_SECRET, name, re.IGNORECASE):
        return False
    return re.search(_SECRET_NAME, name, re.IGNORECASE) is not None


def is_shown(name: str, value: str) -> bool:
    """Whether the value of an environment variable may be shown: a known setting, or a switch."""
    if is_secret_name(name):
        return False
    return bool(re.fullmatch(_SETTING, name) or re.fullmatch(_HARMLESS, value, re.IGNORECASE))
