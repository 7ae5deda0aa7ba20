"""`python -m bench`: measure everything and print it as a table."""

from collections.abc import Callable, Iterator
from functools import partial

from bench import google_cloud, load, start_up, table, warm
from bench.database import open_database
from bench.server import Sources


def main() -> None:
    """Print each row as soon as it is measured."""
    with Sources() as sources, open_database() as database:
        measurements: list[Callable[[], Iterator[table.Row]]] = [
            partial(start_up.first_recorded, sources, database),
            partial(start_up.first_refusals, sources),
            partial(warm.cpu, sources, database),
            partial(warm.calls, sources),
            partial(google_cloud.metadata_requests, sources),
            warm.decoding,
            partial(load.burst, sources, database),
            partial(load.large_bodies, sources),
        ]
        print(f"Measured on {table.machine()}.\n\n{table.HEADER}", flush=True)
        for measure in measurements:
            for row in measure():
                print(row, flush=True)


main()
