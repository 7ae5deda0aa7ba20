"""Has gcloud read the JSON files of deploy/ as the types they are, and prints unknown fields.

Run by gcloud's own Python as `read_with_gcloud.py SDK_ROOT FILE...`. A field that Google's own
definition does not have would be refused only by the server.
"""

import importlib
import json
import sys
from pathlib import Path

SDK = Path(sys.argv[1])
sys.path[:0] = [str(SDK / "lib"), str(SDK / "lib" / "third_party")]

apis = importlib.import_module("googlecloudsdk.api_lib.util.apis")
encoding = importlib.import_module("apitools.base.py.encoding")

KINDS = {
    "alerts": ("monitoring", "v3", "AlertPolicy"),
    "metrics": ("logging", "v2", "LogMetric"),
    "deploy": ("monitoring", "v1", "Dashboard"),
}

for file in map(Path, sys.argv[2:]):
    service, version, name = KINDS[file.parent.name]
    kind = getattr(apis.GetMessagesModule(service, version), name)
    message = encoding.PyValueToMessage(kind, json.loads(file.read_text()))
    for path, unknown in encoding.UnrecognizedFieldIter(message):
        sys.stdout.write(f"{file.name}: {path} {unknown}\n")
