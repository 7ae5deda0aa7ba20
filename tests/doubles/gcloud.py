"""Stands in for gcloud, curl, sleep and gcloud's Python, with a small cloud in memory.

The programs on PATH are a few lines of bash that ask this object over loopback: a new Python for
each of the thousands of calls would take a minute.
"""

import copy
import json
import re
from pathlib import Path
from socketserver import StreamRequestHandler, ThreadingTCPServer
from threading import Thread
from typing import Any, NoReturn

# Standard input is passed on only if the command says that it reads it.
PROGRAM = """#!{folder}/bash
given=""
case " $* " in *=-\\ * | *check.py*) given=$(cat) ;; esac
exec 3<>/dev/tcp/127.0.0.1/{port}
printf '%s\\0' "$(($# + 2))" {name} "$given" "$@" >&3
read -r code <&3
IFS= read -r -d '' output <&3
[ "$code" = 0 ] || exec >&2
printf '%s' "$output"
exit "$code"
"""
PYTHON = "gcloud-python"
# Flags of a deployment, and what deploy.sh reads of them later.
LIMITS = {
    "concurrency": "concurrency",
    "max-instances": "@metadata.annotations.autoscaling.knative.dev/maxScale",
}


class Answered(Exception):  # noqa: N818 - it is how a command ends, well or not
    """A command's exit code and output."""


def answer(text: str = "") -> NoReturn:
    """Let a command succeed."""
    raise Answered(0, f"{text}\n" if text else "")


def refuse(text: str) -> NoReturn:
    """Let a command fail like gcloud."""
    raise Answered(1, f"ERROR: (gcloud) {text}\n")


class FakeCloud:
    """A Google Cloud project as deploy.sh sees it."""

    def __init__(self, **state: object) -> None:
        self.state: dict[str, Any] = state
        self.calls: list[list[str]] = []
        self.inputs: list[str] = []

    def serve(self, folder: Path, *programs: str) -> ThreadingTCPServer:
        """Put the programs into a folder, and serve them until the server is shut down."""
        cloud = self

        class Handler(StreamRequestHandler):
            def handle(self) -> None:
                name, given, *words = [self.word() for _ in range(int(self.word()))]
                code, output = cloud.ask([name, *words], given)
                self.wfile.write(f"{code}\n{output}\0".encode())

            def word(self) -> str:
                return b"".join(iter(lambda: self.rfile.read(1), b"\0")).decode()

        server = ThreadingTCPServer(("127.0.0.1", 0), Handler)
        Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        for name in (*programs, PYTHON):
            text = PROGRAM.format(folder=folder, port=server.server_address[1], name=name)
            (folder / name).write_text(text)
            (folder / name).chmod(0o755)
        return server

    def ask(self, call: list[str], given: str = "") -> tuple[int, str]:
        """Answer one call."""
        self.calls.append(call)
        self.inputs.append(given)
        self.given = given
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
        elif program == PYTHON:
            self.check(arguments)
        elif program == "curl" and "--write-out" not in self.arguments:
            answer('{"status": "up", "version": "0.1.0"}')
        elif program == "curl":
            answer(self.next("health"))

    def next(self, kind: str) -> Any:  # noqa: ANN401 - any answer of the test
        """Return the next of several answers; the last one repeats."""
        several = self.state[kind]
        self.state[kind] = several[1:] or several
        return several[0]

    def check(self, arguments: list[str]) -> None:
        """Replace deploy/check.py, which has separate tests."""
        if len(arguments) == 3:
            answer(str(self.state["portals"][arguments[2]]))
        code, text = self.next("check")
        raise Answered(code, text)

    def things(self, kind: str) -> dict[str, Any]:
        """Return all resources of a kind."""
        found: dict[str, Any] = self.state.setdefault(kind, {})
        return found

    def describe(self, kind: str, name: str) -> NoReturn:
        """Answer like `describe`, where the value is in the caller's format."""
        if name not in self.things(kind):
            refuse(f"NOT_FOUND: {name} does not exist.")
        answer(self.things(kind)[name])

    def named(self, kind: str) -> NoReturn:
        """Answer like `list` with a filter on the display name."""
        wanted = self.flags["filter"].split('"')[-2]
        answer(self.things(kind).get(wanted, ""))

    def policy(self, name: str) -> dict[str, str]:
        """Return a policy by Google's name for it."""
        policies = self.things("policies").values()
        found: dict[str, str] = next(value for value in policies if value["name"] == name)
        return found

    def list_policies(self) -> NoReturn:
        """Answer with the name, and with the label and channels if requested."""
        wanted = self.flags["filter"].split('"')[-2]
        found = self.things("policies").get(wanted)
        if not found:
            answer()
        with_all = "userLabels" in self.flags["format"]
        answer("\t".join(found.values()) if with_all else found["name"])

    def create_policy(self) -> None:
        title = json.loads(self.given)["displayName"]
        self.things("policies")[title] = {
            "name": f"projects/p/alertPolicies/{len(self.things('policies')) + 1}",
            "content": self.flags["user-labels"].removeprefix("content="),
            "channels": self.flags["notification-channels"],
        }

    def update_policy(self, name: str) -> None:
        policy = self.policy(name)
        if "add-notification-channels" in self.flags:
            policy["channels"] += f",{self.flags['add-notification-channels']}"
        else:
            assert json.loads(self.given)["displayName"] in self.things("policies")
            policy["channels"] = self.flags["set-notification-channels"]
            policy["content"] = self.flags["update-user-labels"].removeprefix("content=")

    def binding(self) -> str:
        """Format a role and its condition's title like value(...), separated by a tab."""
        title = self.flags["condition"].partition("title=")[2]
        return f"{self.flags['role']}\t{title}"

    def list_roles(self, key: str, wanted: str) -> NoReturn:
        """Answer with a member's roles, or with the members whose role matches."""
        bindings = {**self.things("people"), **self.things("bindings")}
        if key == "bindings.members=":
            answer("\n".join(bindings.get(wanted, [])))
        granted = [
            (member, binding.split("\t")[0])
            for member, several in bindings.items()
            for binding in several
        ]
        answer("\n".join("\t".join(each) for each in granted if re.search(wanted, each[1])))

    def deploy(self, name: str) -> None:
        """Create a revision; it gets traffic by default."""
        service = self.things("services").setdefault(
            name, {"env": {}, "limits": {}, "revisions": {}, "serving": None, "checking": None}
        )
        pairs = self.flags["update-env-vars"].removeprefix("^@^").split("@")
        service["env"].update(pair.split("=", 1) for pair in pairs)
        limits = {key: self.flags[key] for key in LIMITS if key in self.flags}
        service["limits"].update(limits)
        revision = f"{name}-{len(service['revisions']) + 1:05}-abc"
        template = {"env": service["env"], "limits": service["limits"]}
        service["revisions"][revision] = copy.deepcopy(template)
        if "no-traffic" in self.flags:
            service["checking"] = revision
        else:
            service["serving"] = revision

    def revision_state(self, revision: dict[str, Any], where: str = "") -> list[str]:
        """Format a revision, or a service's template, like flattened[no-pad](...) in deploy.sh."""
        lines = ["cpu: 1", "memory: 512Mi", "timeout: 60"]
        for key, value in revision["limits"].items():
            lines.append(f"{LIMITS[key].replace('@', where)}: {value}")
        for index, (name, value) in enumerate(revision["env"].items()):
            lines.append(f"{where}spec.containers[0].env[{index}].name: {name}")
            if value:
                lines.append(f"{where}spec.containers[0].env[{index}].value: {value}")
        return lines

    def service_state(self, service: dict[str, Any]) -> str:
        lines = self.revision_state(service, "spec.template.")
        lines.append(f"latest: {list(service['revisions'])[-1]}")
        shares = service.get("split", {service["serving"]: 100})
        for index, (revision, percent) in enumerate(shares.items()):
            lines.append(f"status.traffic[{index}].percent: {percent}")
            lines.append(f"status.traffic[{index}].revisionName: {revision}")
        if service["checking"]:
            lines.append(f"status.traffic[{len(shares)}].revisionName: {service['checking']}")
            lines.append(f"status.traffic[{len(shares)}].tag: check")
        return "\n".join(lines)

    def gcloud(self, words: list[str]) -> None:  # noqa: C901, PLR0912, PLR0915 - a table of commands
        """Execute a command, as far as deploy.sh can tell."""
        line = " ".join(words)
        for text, message in self.state.get("refused", {}).items():
            if text in " ".join(self.arguments):
                times = self.state.get("refused_times", 99)
                if times:
                    self.state.update({"refused_times": times - 1} if times < 99 else {})
                    refuse(message)
        if words[:1] in (["alpha"], ["beta"]):
            words = words[1:]
        elif "help" in self.flags:
            if not self.state.get("ga"):
                refuse("Invalid choice")
            answer("NAME")
        match words:
            case ["version"]:
                answer(self.state["version"])
            case ["info"]:
                answer(f"/sdk\t{PYTHON}")
            case ["auth", "list"]:
                answer(self.state["account"])
            case ["auth", "print-access-token"]:
                answer("ya29.token")
            case ["projects", "describe", name]:
                self.describe("projects", name)
            case ["billing", "projects", "describe", _]:
                answer(self.state["billing"])
            case ["services", "list"]:
                answer("\n".join(self.things("apis")))
            case ["services", "enable", *names]:
                self.things("apis").update(dict.fromkeys(names, ""))
            case ["projects", "get-iam-policy", _]:
                self.list_roles(*self.flags["filter"].split('"')[:2])
            case ["projects", "add-iam-policy-binding", _]:
                if self.state.get("unknown_accounts"):
                    self.state["unknown_accounts"] -= 1
                    refuse("INVALID_ARGUMENT: Service account does not exist.")
                self.things("bindings").setdefault(self.flags["member"], []).append(self.binding())
            case ["projects", "remove-iam-policy-binding", _]:
                self.things("bindings")[self.flags["member"]].remove(self.binding())
            case ["iam", "service-accounts", "create", name]:
                email = f"{name}@{self.flags['project']}.iam.gserviceaccount.com"
                self.things("accounts")[email] = email
            case ["iam", "service-accounts", "describe", email]:
                self.describe("accounts", email)
            case ["iam", "service-accounts", "delete", email]:
                del self.things("accounts")[email]
            case ["firestore", "databases", "describe"]:
                database = self.things("databases").get(self.flags["database"])
                if not database:
                    refuse("NOT_FOUND: Database does not exist.")
                answer("\t".join(database.split("\t")[: self.flags["format"].count(",") + 1]))
            case ["firestore", "databases", "create"]:
                recovery = "enable-pitr" in self.flags
                self.things("databases")[self.flags["database"]] = (
                    f"{self.flags['location']}\tFIRESTORE_NATIVE\tPOINT_IN_TIME_RECOVERY_"
                    f"{'ENABLED' if recovery else 'DISABLED'}"
                )
            case ["firestore", "databases", "update"]:
                found = self.things("databases")[self.flags["database"]]
                self.things("databases")[self.flags["database"]] = found.replace(
                    "DISABLED", "ENABLED"
                )
            case ["firestore", "indexes", "fields", "list"]:
                answer("\n".join(self.things("exempt").get(self.flags["database"], [])))
            case ["firestore", "indexes", "fields", "update", field]:
                group = self.flags["collection-group"]
                name = f"projects/p/x/collectionGroups/{group}/fields/{field}"
                exempt = self.things("exempt").setdefault(self.flags["database"], [])
                if "clear-exemption" in self.flags:
                    exempt.remove(name)
                else:
                    exempt.append(name)
            case ["firestore", "fields", "ttls", "list"]:
                key = f"{self.flags['database']} {self.flags['collection-group']}"
                answer(self.things("ttls").get(key, ""))
            case ["firestore", "fields", "ttls", "update", field]:
                group = self.flags["collection-group"]
                name = f"projects/p/x/collectionGroups/{group}/fields/{field}"
                self.things("ttls")[f"{self.flags['database']} {group}"] = name
            case ["firestore", "backups", "schedules", "list"]:
                answer(self.things("backups").get(self.flags["database"], ""))
            case ["firestore", "backups", "schedules", "create" | "update"]:
                seconds = int(self.flags["retention"].removesuffix("d")) * 86_400
                self.things("backups")[self.flags["database"]] = f"schedule-1\t{seconds}s"
            case ["run", "services", "describe", name]:
                if name not in self.things("services"):
                    refuse(f"Cannot find service [{name}]")
                answer(self.service_state(self.things("services")[name]))
            case ["run", "revisions", "describe", name]:
                services = self.things("services").values()
                revisions = next(
                    each["revisions"] for each in services if name in each["revisions"]
                )
                answer("\n".join(self.revision_state(revisions[name])))
            case ["run", "services", "list"]:
                name = self.flags["filter"].removeprefix("metadata.name=")
                answer(self.things("elsewhere").get(name, ""))
            case ["run", "services", "update-traffic", name]:
                service = self.things("services")[name]
                service.update(serving=list(service["revisions"])[-1], checking=None)
                service.pop("split", None)
            case ["run", "services", "delete", name]:
                del self.things("services")[name]
            case ["run", "deploy", name]:
                self.deploy(name)
            case ["logging", "buckets", "describe", name]:
                self.describe("buckets", f"{self.flags['location']} {name}")
            case ["logging", "buckets", "create" | "update", name]:
                days = self.flags["retention-days"]
                self.things("buckets")[f"{self.flags['location']} {name}"] = days
            case ["logging", "sinks", "describe", name]:
                self.describe("sinks", name)
            case ["logging", "sinks", "create" | "update", name, destination]:
                self.things("sinks")[name] = destination
            case ["logging", "sinks", "delete", name]:
                del self.things("sinks")[name]
            case ["logging", "read", _]:
                answer("\n".join(self.things("letters")))
            case ["logging", "metrics", "describe", name]:
                self.describe("metrics", name)
            case ["logging", "metrics", "create", name]:
                assert name.endswith(("outcomes", "known-forbidden"))
                assert json.loads(self.given)["filter"]
                self.things("metrics")[name] = name
            case ["logging", "metrics", "delete", name]:
                del self.things("metrics")[name]
            case ["monitoring", "channels", "list"]:
                self.named("channels")
            case ["monitoring", "channels", "create"]:
                address = self.flags["channel-labels"].removeprefix("email_address=")
                number = len(self.things("channels")) + 1
                self.things("channels")[address] = f"projects/p/notificationChannels/{number}"
            case ["monitoring", "policies", "list"]:
                self.list_policies()
            case ["monitoring", "policies", "create"]:
                self.create_policy()
            case ["monitoring", "policies", "update", name]:
                self.update_policy(name)
            case ["monitoring", "policies", "delete", name]:
                policies = self.things("policies")
                title = next(title for title, value in policies.items() if value["name"] == name)
                del policies[title]
            case ["monitoring", "dashboards", "list"]:
                self.named("dashboards")
            case ["monitoring", "dashboards", "create"]:
                self.things("dashboards")[json.loads(self.given)["displayName"]] = "dashboard-1"
            case ["monitoring", "dashboards", "delete", _]:
                self.state["dashboards"] = {}
            case ["monitoring", "uptime", "list-configs"]:
                self.named("uptime")
            case ["monitoring", "uptime", "create", name]:
                self.things("uptime")[name] = "projects/p/uptimeCheckConfigs/1"
            case ["monitoring", "uptime", "delete", _]:
                self.state["uptime"] = {}
            case _:  # pragma: no cover
                refuse(f"the stand-in does not know: {line}")
