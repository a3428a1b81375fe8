"""The page that shows the OpenAPI document. Its scripts come from the service itself, and its policy allows no others."""

from fastapi import FastAPI
from fastapi.openapi.docs import get_swagger_ui_html
from starlette.responses import Response

from api.headers import Page

FILES = "/static-offline-docs"
"""Where FastAPIOffline serves the files of Swagger UI."""


def install(app: FastAPI) -> None:
    """/docs is there."""
    made = get_swagger_ui_html(
        openapi_url="/openapi.json",
        title=app.title,
        swagger_js_url=f"{FILES}/swagger-ui-bundle.js",
        swagger_css_url=f"{FILES}/swagger-ui.css",
        swagger_favicon_url=f"{FILES}/favicon.png",
    )
    page = Page(bytes(made.body).decode(), injects_styles=True)

    @app.get("/docs", include_in_schema=False)
    async def docs() -> Response:
        return page
