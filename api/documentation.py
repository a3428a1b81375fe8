"""The pages that show the OpenAPI document. Their scripts come from the service itself, and their policies allow no others."""

from fastapi import FastAPI
from fastapi.openapi.docs import get_redoc_html, get_swagger_ui_html
from starlette.responses import Response

from api.headers import Page

FILES = "/static-offline-docs"
"""Where FastAPIOffline serves the files of Swagger UI and Redoc."""


def install(app: FastAPI) -> None:
    """/docs and /redoc are there."""
    document, favicon = "/openapi.json", f"{FILES}/favicon.png"
    swagger = get_swagger_ui_html(
        openapi_url=document,
        title=app.title,
        swagger_js_url=f"{FILES}/swagger-ui-bundle.js",
        swagger_css_url=f"{FILES}/swagger-ui.css",
        swagger_favicon_url=favicon,
    )
    redoc = get_redoc_html(
        openapi_url=document,
        title=app.title,
        redoc_js_url=f"{FILES}/redoc.standalone.js",
        redoc_favicon_url=favicon,
        with_google_fonts=False,
    )

    @app.get("/docs", include_in_schema=False)
    async def docs() -> Response:
        return _page(swagger)

    @app.get("/redoc", include_in_schema=False)
    async def redoc_page() -> Response:
        return _page(redoc)


def _page(made: Response) -> Page:
    return Page(bytes(made.body).decode(), injects_styles=True)
