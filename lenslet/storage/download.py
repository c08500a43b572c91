"""The body of an answer: read in order, or as a file that can be read anywhere."""

from __future__ import annotations

import io
import tempfile
from typing import Any

from lenslet.storage.store import Store


class Stream:
    """The rest of an answer's body, read in order; `StorageUnavailable` when it breaks off."""

    def __init__(self, body: Any, store: Store) -> None:
        self._body = body
        self._store = store

    def read(self, size: int | None = None, /) -> bytes:
        from botocore.exceptions import BotoCoreError

        try:
            data: bytes = self._body.read(size)
        except BotoCoreError as error:
            raise self._store.unanswered(error) from error
        return data

    def close(self) -> None:
        self._body.close()


class Download(io.RawIOBase):
    """An object's bytes as a file: all at once, or through a temporary file."""

    def __init__(self, stream: Stream) -> None:
        super().__init__()
        self._stream = stream
        self._file: Any = None

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def read(self, size: int = -1, /) -> bytes:
        if self._file is None and size < 0:
            return self._stream.read()
        data: bytes = self._pulled().read(size)
        return data

    def seek(self, offset: int, whence: int = 0, /) -> int:
        return int(self._pulled().seek(offset, whence))

    def tell(self) -> int:
        return int(self._pulled().tell())

    def fileno(self) -> int:
        return int(self._pulled().fileno())

    def _pulled(self) -> Any:
        if self._file is None:
            self._file = tempfile.TemporaryFile()  # noqa: SIM115 - closed with this one
            while chunk := self._stream.read(1 << 20):
                self._file.write(chunk)
            self._file.flush()
            self._file.seek(0)
        return self._file

    def close(self) -> None:
        self._stream.close()
        if self._file:
            self._file.close()
        super().close()
