"""The smallest function that checks a token and records a deletion with the official client."""

import functions_framework
from flask import Request
from google.cloud import firestore
from pydantic import BaseModel

client = firestore.Client()


class Deletion(BaseModel):
    """The fields that the function reads."""

    member_id: str
    token: str
    message_id: str


@functions_framework.http
def handle(request: Request) -> tuple[str, int]:
    """Record the deletion of one message."""
    deletion = Deletion(
        member_id=request.form["auth[member_id]"],
        token=request.form["auth[application_token]"],
        message_id=request.form["data[DATA][0][message][id]"],
    )
    portal = client.collection("portals").document(deletion.member_id)
    if portal.get().get("token") != deletion.token:
        return "forbidden", 403
    portal.collection("deletions").document().create({"message_id": deletion.message_id})
    return "recorded", 200
