"""`zpipe ui`: MLflow's web page against the right store, on loopback unless told otherwise."""

import argparse

from zpipe.record.store import tracking_uri
from zpipe.record.ui import serve


def ui(arguments: list[str]) -> int:
    """Serves until Ctrl-C."""
    parser = argparse.ArgumentParser(prog="zpipe ui", description=__doc__)
    parser.add_argument("--uri", help="MLflow store; outputs/mlflow.db unless given")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: loopback)")
    parser.add_argument("--port", type=int, help="port to listen on (default: 5000 or the next free one)")
    options = parser.parse_args(arguments)
    return serve(tracking_uri(options.uri), host=options.host, port=options.port)
