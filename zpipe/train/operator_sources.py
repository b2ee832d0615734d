"""Shorter builds of DeepSpeed's operators: no debug symbols, and PyTorch's headers read once.

Each of these source files includes all headers of PyTorch, which takes a compiler half a minute. Joined in
one file they are read once, so that two cores build async_io in one minute instead of six.
"""

from pathlib import Path
from typing import Any

NO_DEBUG_SYMBOLS = "-g0"

JOINED = {"async_io": "csrc/aio/py_lib/", "cpu_adam": "csrc/adam/", "cpu_lion": "csrc/lion/"}
"""By operator, the folder whose sources include PyTorch's headers, and in which no two names collide."""


def shorten_build(builder: Any, folder: Path) -> bool:
    """Changes flags and sources of an OpBuilder that builds in `folder`; returns whether it joined sources.

    An operator that DeepSpeed itself built is left alone: ninja builds again when flags or sources change.
    """
    script = folder / "build.ninja"
    is_built = (folder / f"{builder.name}.so").exists() and script.exists()
    if is_built and NO_DEBUG_SYMBOLS not in script.read_text(encoding="utf-8"):
        return False
    flags = builder.cxx_args
    builder.cxx_args = lambda: [*flags(), NO_DEBUG_SYMBOLS]
    if builder.name not in JOINED:
        return False
    _join_sources(builder, folder / "joined.cpp", JOINED[builder.name])
    return True


def restore_build(builder: Any) -> None:
    """Returns to DeepSpeed's own flags and sources."""
    for name in ("cxx_args", "sources"):
        vars(builder).pop(name, None)


def _join_sources(builder: Any, joined: Path, place: str) -> None:
    sources = builder.sources()
    inside = [source for source in sources if source.startswith(place)]
    outside = [source for source in sources if source not in inside]
    own = [each for each in builder.include_paths() if each.startswith(str(Path(*Path(place).parts[:2])))]
    folders = [Path(builder.deepspeed_src_path(each)).absolute() for each in own]
    # Some headers have no include guard. #import reads a header once, and #include then skips it.
    headers = [header for each in folders for header in sorted(each.glob("*.h"))]
    text = "".join(
        [
            '#pragma GCC diagnostic ignored "-Wdeprecated"\n',
            *(f'#import "{header}"\n' for header in headers),
            *(f'#include "{Path(builder.deepspeed_src_path(source)).absolute()}"\n' for source in inside),
        ]
    )
    if not joined.exists() or joined.read_text(encoding="utf-8") != text:
        joined.write_text(text, encoding="utf-8")
    builder.sources = lambda: [*outside, str(joined)]
