"""The names of the events that the function handles."""

from typing import Final

DELETION: Final = "ONOPENLINEMESSAGEDELETE"
DELETION_TWIN: Final = "ONIMCONNECTORMESSAGEDELETE"  # goes to the connector's own application
DELETIONS: Final = frozenset({DELETION, DELETION_TWIN})

# These bring a message's text before it is deleted; handled only with KEEP_TEXT_DAYS.
MESSAGE_ADD: Final = "ONOPENLINEMESSAGEADD"
MESSAGE_UPDATE: Final = "ONOPENLINEMESSAGEUPDATE"
MESSAGES: Final = frozenset({MESSAGE_ADD, MESSAGE_UPDATE})

INSTALL: Final = "ONAPPINSTALL"
UNINSTALL: Final = "ONAPPUNINSTALL"
TEST: Final = "ONAPPTEST"  # what event.test sends
OFFLINE_PING: Final = "ONOFFLINEEVENT"  # rows were added to the offline queue
