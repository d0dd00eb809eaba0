"""`precsim explore`: the explorer's page, served to this machine alone."""

import argparse
import webbrowser

from precsim.cli.numbers import whole
from precsim.cli.output import flush_output, print_words
from precsim.explorer.server import Server
from precsim.formats.arguments import integer


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `precsim explore`.

    Parameters
    ----------
    parser : argparse.ArgumentParser
        Where to add them.
    """
    parser.add_argument(
        "--port",
        type=whole,
        default=0,
        help="where the page is served (default: any port that is free)",
    )
    parser.add_argument(
        "--no-browser", action="store_true", help="only print the address, and open nothing"
    )


def run(args: argparse.Namespace) -> int:
    """Serve the page until the command is interrupted.

    Parameters
    ----------
    args : argparse.Namespace
        `port` and `no_browser`.

    Returns
    -------
    int
        0.

    Raises
    ------
    ValueError
        If the port is none, or cannot be had.
    """
    with _server(integer(args.port, "--port", 0, 65535)) as server:
        print_words(f"{server.address} has the explorer, for this machine alone. Ctrl-C ends it.")
        flush_output()
        if not args.no_browser:
            webbrowser.open(server.address)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            print()
    return 0


def _server(port: int) -> Server:
    try:
        return Server(port)
    except OSError as error:
        why = str(error.strerror).lower()
        raise ValueError(f"--port is {port}: {why}; allowed is a free one, 0 for any") from None
