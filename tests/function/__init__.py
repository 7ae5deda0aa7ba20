"""The whole function: HTTP in; answers, documents and log lines out."""
