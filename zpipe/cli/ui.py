"""`zpipe ui`: serves MLflow's web page for a store, on loopback by default."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

OVERVIEW = {"ui": "serve MLflow's web page on this machine"}


def add_arguments(parser: "ArgumentParser") -> None:
    from zpipe.cli.arguments import whole_number

    port = whole_number("--port", 1, 65535)
    parser.add_argument("--uri", help="MLflow store (default: outputs/mlflow.db)")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: loopback)")
    parser.add_argument("--port", type=port, help="port to listen on (default: 5000 or the next free one)")


def run(options: "Namespace") -> int:
    """Serves until Ctrl-C."""
    from zpipe.record.store import tracking_uri
    from zpipe.record.ui import serve
    from zpipe.terminal.console import show

    return serve(tracking_uri(options.uri), options.host, options.port, show)
