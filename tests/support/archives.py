"""Archives of `zpipe report`."""

import tarfile
from pathlib import Path


def unpack(archive: Path, folder: Path) -> None:
    """Writes the files of an archive. TarFile.extractall has its filter only since Python 3.11.4."""
    with tarfile.open(archive) as packed:
        for member in packed.getmembers():
            content = packed.extractfile(member)
            if content is not None:
                file = folder / member.name
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(content.read())
