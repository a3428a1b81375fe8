"""Tokens: made, listed, revoked."""

from datetime import UTC, datetime
from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Body, Path, Response
from starlette.exceptions import HTTPException

from api import cursors
from api.answers import Page, TokenAnswer, TokenCreated
from api.dependencies import Cursor, Limit, Reading, TheCaller, TheChange, TheKeyring, Writing
from api.headers import NO_STORE, located
from api.keyring import ANONYMOUS, Caller
from api.problems import described
from tuner.specs.token import TokenSpec
from tuner.store import tokens
from tuner.store.clock import rfc3339
from tuner.store.tokens import Token

router = APIRouter(prefix="/v1/tokens", tags=["access"])

TokenName = Annotated[str, Path(description="the token's name", examples=["ci"])]

EXAMPLES = {
    "a reader's, for a month": {"value": {"name": "dashboard", "role": "reader", "expires_days": 30}},
    "an operator's": {"value": {"name": "ci", "role": "operator"}},
}


@router.post(
    "",
    status_code=201,
    response_model=TokenCreated,
    responses={**located(201, "the token's address"), **described(409)},
    summary="Make a token",
)
def post_token(
    spec: Annotated[TokenSpec, Body(openapi_examples=EXAMPLES)],
    response: Response,
    caller: TheCaller,
    connection: Writing,
) -> TokenCreated:
    """Its secret is told in this answer and never again: only a hash is stored. The first token is made on the data folder, by
    `tuner token create`; with it access control begins."""
    _refuse_anonymous(caller)
    secret = tokens.create_token(connection, spec, caller.name)
    response.headers["Location"] = f"/v1/tokens/{spec.name}"
    response.headers["Cache-Control"] = NO_STORE
    return TokenCreated(token=secret, **_answer(tokens.find_token(connection, spec.name)).model_dump())


@router.get("", response_model=Page[TokenAnswer], summary="List tokens, the newest first")
def get_tokens(connection: Reading, cursor: Cursor = None, limit: Limit = 50) -> Page[TokenAnswer]:
    """Also those that were revoked or have expired."""
    found = tokens.list_tokens(connection, cursors.decode_int(cursor), limit + 1)
    page, next_cursor = cursors.cut(found, limit, lambda token: int(token.id))
    return Page(items=[_answer(token) for token in page], next_cursor=next_cursor)


@router.get("/{name}", response_model=TokenAnswer, responses=described(404), summary="One token")
def get_token(name: TokenName, connection: Reading) -> TokenAnswer:
    """Of those that had the name the newest; never the secret, of which the service has a hash alone."""
    return _answer(tokens.find_token(connection, name))


@router.delete("/{name}", status_code=204, responses=described(404), summary="Revoke a token")
def delete_token(
    name: TokenName, caller: TheCaller, change: TheChange, keyring: TheKeyring, connection: Writing
) -> None:
    """It and its sessions open nothing from now on, in other processes of the API after a second. Access control stays on."""
    _refuse_anonymous(caller)
    tokens.revoke_token(connection, name)
    change.afterwards(keyring.forget)


def _refuse_anonymous(caller: Caller) -> None:
    """Whoever reaches an open service must not keep a key for the day on which it is closed."""
    if caller == ANONYMOUS:
        raise HTTPException(
            HTTPStatus.FORBIDDEN,
            "the first token is made on the data folder, with `tuner token create`, by whoever owns it",
        )


def _answer(token: Token) -> TokenAnswer:
    expired = token.expires_at is not None and token.expires_at <= rfc3339(datetime.now(UTC))
    return TokenAnswer(
        name=token.name,
        role=token.role,
        state="revoked" if token.revoked_at is not None else "expired" if expired else "live",
        created_at=token.created_at,
        created_by=token.created_by,
        expires_at=token.expires_at,
        revoked_at=token.revoked_at,
        last_used_at=token.last_used_at,
    )
