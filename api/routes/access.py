"""Who is asking, and who has asked for what."""

from typing import Annotated

from fastapi import APIRouter, Query

from api import cursors
from api.answers import AuditEntry, Page, WhoAmI
from api.dependencies import Cursor, Limit, Reading, TheCaller, TheKeyring
from tuner.store import audit

router = APIRouter(prefix="/v1", tags=["access"])


@router.get("/whoami", response_model=WhoAmI, summary="Who you are to the service")
async def who_am_i(caller: TheCaller, keyring: TheKeyring) -> WhoAmI:
    """The name by which the audit log knows you, your role, and until when."""
    guarded = await keyring.is_guarded()
    return WhoAmI(name=caller.name, role=caller.role, access_control=guarded, expires_at=caller.expires_at)


@router.get("/audit", response_model=Page[AuditEntry], summary="List changes that were asked for, the newest first")
def get_audit(
    connection: Reading,
    who: Annotated[str | None, Query(max_length=200, description="only this one's", examples=["ci"])] = None,
    path: Annotated[
        str | None, Query(max_length=500, description="how the address begins", examples=["/v1/studies/mnist-quick"])
    ] = None,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> Page[AuditEntry]:
    """Every POST, PATCH and DELETE that the gate has let pass, with its status; what has a status of 400 or more changed
    nothing."""
    found = audit.list_changes(connection, who, path, cursors.decode_int(cursor), limit + 1)
    page, next_cursor = cursors.cut(found, limit, lambda entry: int(entry.id))
    return Page(items=[AuditEntry.model_validate(entry) for entry in page], next_cursor=next_cursor)
