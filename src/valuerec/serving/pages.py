"""The page and its files, from memory; they may load nothing from anywhere else."""

from __future__ import annotations

import mimetypes
from pathlib import Path
from typing import Final

from fastapi import APIRouter, Response

from valuerec.serving.problems import RefusalError

_FOLDER: Final = Path(__file__).parent / "page"
_POLICY: Final = "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
_HEADERS: Final = {
    "content-security-policy": _POLICY,
    "referrer-policy": "no-referrer",
    "cache-control": "no-cache",
}


def page_router() -> APIRouter:
    """Routes of the files that are there now."""
    router = APIRouter(include_in_schema=False)
    files = {}
    if _FOLDER.is_dir():
        files = {file.name: file.read_bytes() for file in sorted(_FOLDER.iterdir()) if file.is_file()}

    def answer(name: str) -> Response:
        if name not in files:
            raise RefusalError(404, "not_found", "There is no such file here; the page is at /.")
        kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
        return Response(files[name], media_type=kind, headers=_HEADERS)

    @router.get("/")
    async def index() -> Response:
        return answer("index.html")

    @router.get("/page/{name}")
    async def file(name: str) -> Response:
        return answer(name)

    return router
