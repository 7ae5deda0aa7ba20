"""Stands in for gcloud, curl and sleep: records each call and keeps a small cloud in memory.

The programs on PATH are four lines of bash that ask this object over loopback: a new Python for
each of the thousands of calls would take a minute.
"""

import json
from pathlib import Path
from socketserver import StreamRequestHandler, ThreadingTCPServer
from threading import Thread
from typing import Any, NoReturn

PROGRAM = """#!/usr/bin/env bash
exec 3<>/dev/tcp/127.0.0.1/{port}
printf '%s\\0' "$(($# + 1))" {name} "$@" >&3
read -r code <&3
IFS= read -r -d '' output <&3
[ "$code" = 0 ] || exec >&2
printf '%s' "$output"
exit "$code"
"""


class Answered(Exception):  # noqa: N818 - it is how a command ends, well or not
    """The exit code and the output of a command."""


def answer(text: str = "") -> NoReturn:
    """End a command well."""
    raise Answered(0, f"{text}\n" if text else "")


def refuse(text: str) -> NoReturn:
    """End a command as gcloud does when it fails."""
    raise Answered(1, f"ERROR: (gcloud) {text}\n")


class FakeCloud:
    """A Google Cloud project, as far as deploy.sh can see it."""

    def __init__(self, **state: object) -> None:
        self.state: dict[str, Any] = state
        self.calls: list[list[str]] = []

    def serve(self, folder: Path, *programs: str) -> ThreadingTCPServer:
        """Put the programs into a folder, and answer them until the server is shut down."""
        cloud = self

        class Handler(StreamRequestHandler):
            def handle(self) -> None:
                code, output = cloud.ask([self.word() for _ in range(int(self.word()))])
                self.wfile.write(f"{code}\n{output}\0".encode())

            def word(self) -> str:
                return b"".join(iter(lambda: self.rfile.read(1), b"\0")).decode()

        server = ThreadingTCPServer(("127.0.0.1", 0), Handler)
        Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        for name in programs:
            text = PROGRAM.format(port=server.server_address[1], name=name)
            (folder / name).write_text(text)
            (folder / name).chmod(0o755)
        return server

    def ask(self, call: list[str]) -> tuple[int, str]:
        """Answer one call."""
        self.calls.append(call)
        try:
            self.call(call[0], call[1:])
        except Answered as done:
            code, output = done.args
            return code, output
        return 0, ""

    def call(self, program: str, arguments: list[str]) -> None:
        self.arguments = arguments
        flags = [word[2:].partition("=") for word in arguments if word.startswith("--")]
        self.flags = {name: value for name, _, value in flags}
        if program == "gcloud":
            self.gcloud([word for word in arguments if not word.startswith("--")])
        elif program == "curl":
            codes = self.state["health"]
            self.state["health"] = codes[1:] or codes
            answer(codes[0])

    def things(self, kind: str) -> dict[str, Any]:
        """Give everything of a kind that there is."""
        found: dict[str, Any] = self.state.setdefault(kind, {})
        return found

    def describe(self, kind: str, name: str) -> NoReturn:
        """Answer as `describe` does, where the value is what the caller's format would give."""
        if name not in self.things(kind):
            refuse(f"NOT_FOUND: {name} does not exist.")
        answer(self.things(kind)[name])

    def named(self, kind: str) -> NoReturn:
        """Answer as `list` does with a filter on the name that people see."""
        wanted = self.flags["filter"].split('"')[-2]
        answer(self.things(kind).get(wanted, ""))

    def policy(self, name: str) -> str:
        """Give the title of a policy, by the name that Google gave it."""
        policies = self.things("policies").items()
        return next(title for title, value in policies if value.startswith(f"{name}\t"))

    def deploy(self, name: str) -> None:
        """Make a revision; it gets traffic unless told not to, or unless traffic is pinned."""
        service = self.things("services").setdefault(
            name, {"env": {}, "revisions": [], "serving": None, "canary": None, "pinned": False}
        )
        pairs = self.flags["update-env-vars"].removeprefix("^@^").split("@")
        service["env"].update(pair.split("=", 1) for pair in pairs)
        revision = f"{name}-{len(service['revisions']) + 1:05}-abc"
        service["revisions"].append(revision)
        if "no-traffic" in self.flags:
            service["pinned"] = True
            service["canary"] = revision
        elif not service["pinned"]:
            service["serving"] = revision

    def service_state(self, service: dict[str, Any]) -> str:
        """Show a service as the format flattened[no-pad](...) of deploy.sh does."""
        lines = []
        for index, (name, value) in enumerate(service["env"].items()):
            lines.append(f"spec.template.spec.containers[0].env[{index}].name: {name}")
            if value:
                lines.append(f"spec.template.spec.containers[0].env[{index}].value: {value}")
        pinned = f"revisionName: {service['serving']}"
        lines.append(f"spec.traffic[0].{pinned if service['pinned'] else 'latestRevision: True'}")
        lines.append("spec.traffic[0].percent: 100")
        if service["canary"]:
            lines += ["spec.traffic[1].latestRevision: True", "spec.traffic[1].tag: canary"]
        lines.append(f"latest: {service['revisions'][-1]}")
        lines.append("status.traffic[0].percent: 100")
        lines.append(f"status.traffic[0].revisionName: {service['serving']}")
        if service["canary"]:
            lines.append(f"status.traffic[1].revisionName: {service['canary']}")
            lines.append("status.traffic[1].tag: canary")
        return "\n".join(lines)

    def update_traffic(self, service: dict[str, Any]) -> None:
        """Send all traffic to the latest revision, or pin it."""
        if self.flags.get("remove-tags") == "canary":
            service["canary"] = None
        if "to-latest" in self.flags:
            service.update(pinned=False, serving=service["revisions"][-1])
        else:
            service.update(pinned=True, serving=self.flags["to-revisions"].removesuffix("=100"))

    def gcloud(self, words: list[str]) -> None:  # noqa: C901, PLR0912, PLR0915 - a table of commands
        """Do what the command does, as far as deploy.sh can see it."""
        line = " ".join(words)
        for text, message in self.state.get("refused", {}).items():
            if text in " ".join(self.arguments):
                refuse(message)
        match words:
            case ["version"]:
                answer(self.state["version"])
            case ["auth", "list"]:
                answer(self.state["account"])
            case ["projects", "describe", name]:
                self.describe("projects", name)
            case ["billing", "projects", "describe", _]:
                answer(self.state["billing"])
            case ["services", "list"]:
                answer("\n".join(self.things("apis")))
            case ["services", "enable", *names]:
                self.things("apis").update(dict.fromkeys(names, ""))
            case ["projects", "get-iam-policy", _]:
                member = self.flags["filter"].split('"')[-2]
                answer("\n".join(self.things("bindings").get(member, [])))
            case ["projects", "add-iam-policy-binding", _]:
                if self.state.get("unknown_accounts"):
                    self.state["unknown_accounts"] -= 1
                    refuse("INVALID_ARGUMENT: Service account does not exist.")
                self.things("bindings")[self.flags["member"]] = [self.flags["role"]]
            case ["projects", "remove-iam-policy-binding", _]:
                del self.things("bindings")[self.flags["member"]]
            case ["iam", "service-accounts", "create", name]:
                email = f"{name}@{self.flags['project']}.iam.gserviceaccount.com"
                self.things("accounts")[email] = email
            case ["iam", "service-accounts", "describe", email]:
                self.describe("accounts", email)
            case ["iam", "service-accounts", "delete", email]:
                del self.things("accounts")[email]
            case ["firestore", "databases", "describe"]:
                self.describe("databases", self.flags["database"])
            case ["firestore", "databases", "create"]:
                place = self.flags["location"]
                self.things("databases")[self.flags["database"]] = f"{place}\tFIRESTORE_NATIVE"
            case ["firestore", "indexes", "fields", "list"]:
                answer("\n".join(self.things("exempt")))
            case ["firestore", "indexes", "fields", "update", field]:
                group = self.flags["collection-group"]
                self.things("exempt")[f"projects/p/x/collectionGroups/{group}/fields/{field}"] = ""
            case ["firestore", "fields", "ttls", "list"]:
                answer(self.things("ttls").get(self.flags["collection-group"], ""))
            case ["firestore", "fields", "ttls", "update", field]:
                group = self.flags["collection-group"]
                self.things("ttls")[group] = f"projects/p/x/collectionGroups/{group}/fields/{field}"
            case ["firestore", "backups", "schedules", "list"]:
                answer(self.things("backups").get(self.flags["database"], ""))
            case ["firestore", "backups", "schedules", "create"]:
                self.things("backups")[self.flags["database"]] = "projects/p/x/backupSchedules/1"
            case ["run", "services", "describe", name]:
                if name not in self.things("services"):
                    refuse(f"Cannot find service [{name}]")
                answer(self.service_state(self.things("services")[name]))
            case ["run", "services", "update-traffic", name]:
                self.update_traffic(self.things("services")[name])
            case ["run", "services", "delete", name]:
                del self.things("services")[name]
            case ["run", "revisions", "list"]:
                service = self.things("services")[self.flags["service"]]
                broken = self.state.get("broken", [])
                newest = reversed(service["revisions"])
                answer("\n".join(f"{name}\t{name not in broken}" for name in newest))
            case ["run", "deploy", name]:
                self.deploy(name)
            case ["logging", "metrics", "describe", name]:
                self.describe("metrics", name)
            case ["logging", "metrics", "create", name]:
                self.things("metrics")[name] = name
            case ["logging", "metrics", "delete", name]:
                del self.things("metrics")[name]
            case ["beta", "monitoring", "channels", "list"]:
                self.named("channels")
            case ["beta", "monitoring", "channels", "create"]:
                address = self.flags["channel-labels"].removeprefix("email_address=")
                number = len(self.things("channels")) + 1
                self.things("channels")[address] = f"projects/p/notificationChannels/{number}"
            case ["alpha", "monitoring", "policies", "list"]:
                self.named("policies")
            case ["alpha", "monitoring", "policies", "create"]:
                title = json.loads(self.flags["policy"])["displayName"]
                name = f"projects/p/alertPolicies/{len(self.things('policies')) + 1}"
                self.things("policies")[title] = f"{name}\t{self.flags['notification-channels']}"
            case ["alpha", "monitoring", "policies", "update", name]:
                title = self.policy(name)
                self.things("policies")[title] += f";{self.flags['add-notification-channels']}"
            case ["alpha", "monitoring", "policies", "delete", name]:
                del self.things("policies")[self.policy(name)]
            case ["monitoring", "uptime", "list-configs"]:
                self.named("uptime")
            case ["monitoring", "uptime", "create", name]:
                self.things("uptime")[name] = "projects/p/uptimeCheckConfigs/1"
            case ["monitoring", "uptime", "delete", _]:
                self.state["uptime"] = {}
            case _:  # pragma: no cover
                refuse(f"the stand-in does not know: {line}")
