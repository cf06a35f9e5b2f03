"""A store of objects in this process, as a file system of fsspec: uploads appear when they are completed."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any, ClassVar

import fsspec
from fsspec.spec import AbstractBufferedFile, AbstractFileSystem


class Refused(OSError):
    """The store's answer, as drivers give it."""

    def __init__(self, status: int) -> None:
        super().__init__(f"the store answers {status}")
        self.response = {"ResponseMetadata": {"HTTPStatusCode": status}, "Error": {}}


class ObjectStore(AbstractFileSystem):  # type: ignore[misc]
    """`shop://bucket/key`."""

    protocol = "shop"
    cachable = False
    objects: ClassVar[dict[str, bytes]] = {}
    uploads: ClassVar[dict[str, dict[str, Any]]] = {}
    operations: ClassVar[list[str]] = []
    before: ClassVar[Callable[[], object]] = staticmethod(lambda: None)
    """Called before each operation that changes something."""

    @classmethod
    def reset(cls) -> None:
        cls.objects.clear()
        cls.uploads.clear()
        cls.operations.clear()
        cls.before = staticmethod(lambda: None)

    @classmethod
    def change(cls, operation: str) -> None:
        cls.before()
        cls.operations.append(operation)

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return str(path).removeprefix("shop://").strip("/")

    def info(self, path: str, **_: Any) -> dict[str, Any]:
        path = self._strip_protocol(path)
        if path in self.objects:
            data = self.objects[path]
            return {"name": path, "size": len(data), "type": "file", "ETag": str(hash(data))}
        if any(name.startswith(path + "/") for name in self.objects):
            return {"name": path, "size": 0, "type": "directory"}
        raise FileNotFoundError(path)

    def ls(self, path: str, detail: bool = True, **_: Any) -> list[Any]:
        path = self._strip_protocol(path)
        names = {
            "/".join(name.split("/")[: path.count("/") + 2]) for name in self.objects if name.startswith(path + "/")
        }
        if not names and path not in self.objects:
            raise FileNotFoundError(path)
        found = [self.info(name) for name in sorted(names)]
        return found if detail else [one["name"] for one in found]

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **_: Any) -> bytes:
        return self.objects[self._strip_protocol(path)][start:end]

    def rm_file(self, path: str) -> None:
        self.change("remove")
        if self.objects.pop(self._strip_protocol(path), None) is None:
            raise FileNotFoundError(path)

    def split_path(self, path: str) -> tuple[str, str, None]:
        bucket, _, key = self._strip_protocol(path).partition("/")
        return bucket, key, None

    def call_s3(self, method: str, **given: Any) -> None:
        assert method == "abort_multipart_upload"
        self.change("abort")
        if self.uploads.pop(given["UploadId"], None) is None:
            raise FileNotFoundError(given["UploadId"])

    def _open(self, path: str, mode: str = "rb", block_size: int | None = None, **given: Any) -> Any:
        if mode == "rb":
            return io.BytesIO(self.cat_file(path))
        return _Upload(self, self._strip_protocol(path), mode, block_size=1 << 10, **given)


class _Upload(AbstractBufferedFile):  # type: ignore[misc]
    mpu: dict[str, str] | None = None

    def _initiate_upload(self) -> None:
        if self.path.startswith("none/"):
            raise FileNotFoundError(self.path)
        if self.path.startswith("forbidden/"):
            raise Refused(403)
        self.fs.change("begin")
        self.mpu = {"UploadId": f"u{len(self.fs.operations)}"}
        self.fs.uploads[self.mpu["UploadId"]] = {"path": self.path, "data": b""}

    def _upload_chunk(self, final: bool = False) -> bool:
        self.fs.change("send")
        assert self.mpu is not None
        if self.mpu["UploadId"] not in self.fs.uploads:
            raise FileNotFoundError("NoSuchUpload")
        self.fs.uploads[self.mpu["UploadId"]]["data"] += self.buffer.getvalue()
        if final and self.autocommit:
            self.commit()
        return True

    def commit(self) -> None:
        self.fs.change("complete")
        assert self.mpu is not None
        if "x" in self.mode and self.path in self.fs.objects:
            raise Refused(412)
        self.fs.objects[self.path] = self.fs.uploads.pop(self.mpu["UploadId"])["data"]

    def discard(self) -> None:
        if self.mpu is not None:
            self.fs.change("abort")
            self.fs.uploads.pop(self.mpu["UploadId"], None)


def register() -> None:
    """Make shop:// known."""
    fsspec.register_implementation("shop", ObjectStore, clobber=True)
