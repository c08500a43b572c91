"""What Lenslet is measured against, each as a program or WSGI application of its own."""

from __future__ import annotations

import os
import pathlib
import sys
import threading
from concurrent.futures import ThreadPoolExecutor


def vips(folder: str) -> None:
    """Make a thumbnail of each image of a folder with pyvips, beside it."""
    import pyvips

    def one(path: pathlib.Path) -> None:
        image = pyvips.Image.thumbnail_buffer(path.read_bytes(), 256, height=256, size="down")
        data = image.webpsave_buffer(Q=70, effort=2, keep="none")
        pathlib.Path(f"{path}.vips").write_bytes(data)

    with ThreadPoolExecutor(os.cpu_count()) as threads:
        list(threads.map(one, sorted(pathlib.Path(folder).iterdir())))


def bare() -> object:
    """A Falcon application that sends the file `BENCH_FILE`, and keeps what is put beside it."""
    import falcon

    name, kind = os.environ["BENCH_FILE"], os.environ.get("BENCH_TYPE")

    class Bare:
        def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
            with open(name, "rb") as file:
                resp.data = file.read()
            resp.content_type = kind

        def on_put(self, req: falcon.Request, resp: falcon.Response) -> None:
            resp.data = req.bounded_stream.read()
            path = req.get_param("path", required=True)
            replace(f"{os.path.dirname(name)}/{path}.json", resp.data)

    app = falcon.App()
    app.add_route("/bare", Bare())
    app.add_route("/item", Bare())
    return app


def replace(name: str, data: bytes) -> None:
    """Replace a file durably: write, fsync, rename, fsync of the folder."""
    temporary = f"{name}.{threading.get_native_id()}"
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT)
    os.write(fd, data)
    os.fsync(fd)
    os.close(fd)
    os.rename(temporary, name)
    folder = os.open(os.path.dirname(name), os.O_RDONLY)
    os.fsync(folder)
    os.close(folder)


if __name__ == "__main__":
    vips(sys.argv[1])
