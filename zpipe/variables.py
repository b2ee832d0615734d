"""Environment variables of MLflow, and those that a file from somebody else must neither set nor get."""

import os
import re

TRACKING_URI = "MLFLOW_TRACKING_URI"
EXPERIMENT_NAME = "MLFLOW_EXPERIMENT_NAME"
UNUSED_MLFLOW = ("MLFLOW_EXPERIMENT_ID", "MLFLOW_RUN_ID", "MLFLOW_NESTED_RUN", "MLFLOW_TAGS")
"""Variables with which MLflow or transformers' MLflowCallback would record another run, or differently."""

MLFLOW_CREDENTIALS = ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN")

_DECIDES_CODE = re.compile(
    r"(PYTHON|LD_|DYLD_|NINJA|TRITON_|TORCHINDUCTOR_|MALLOC_|GLIBC_|GCONV_|GCC_|NVCC_|CUDA_INJECTION).*"
    r"|.*_(PLUGIN|PROXY|PRELOAD|ENDPOINT|PATH|PREFIX|FLAGS|CONF|CONFIG_FILE|CONF_FILE|LIBRARIES|LIBRARY|DIR)"
    r"|PATH|ENV|BASH_ENV|IFS|SHELL|CC|CXX|NVCC|C?FLAGS|CXXFLAGS|LDFLAGS|CPATH|LIBRARY_PATH|CUDA_HOME|HOME"
    r"|TORCH_EXTENSIONS_DIR",
    re.IGNORECASE,
)


def decides_code(name: str) -> bool:
    """Whether the variable decides which code a process runs, or where it sends data."""
    return _DECIDES_CODE.fullmatch(name) is not None


def would_get_credentials(uri: str) -> bool:
    """Whether MLflow would send the credentials of the user to a server that the user did not name for it."""
    is_server = uri.startswith(("http://", "https://", "databricks"))
    has_credentials = any(os.environ.get(name) for name in MLFLOW_CREDENTIALS)
    return is_server and has_credentials and os.environ.get(TRACKING_URI) != uri
