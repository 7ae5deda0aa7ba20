"""`python -m bench`: measure everything and print it as a table."""

from collections.abc import Callable, Iterator
from functools import partial

from bench import google_cloud, load, start_up, table, warm
from bench.database import open_database, open_google_cloud
from bench.server import NotMeasurable, Sources


def main() -> None:
    """Print each row as soon as it is measured."""
    with Sources() as sources, open_database() as database, open_google_cloud() as cloud:
        measurements: dict[str, Callable[[], Iterator[table.Row]]] = {
            "first recorded deletion": partial(start_up.first_recorded, sources, database),
            "first recorded deletion over TLS": partial(start_up.first_recorded, sources, cloud),
            "first refusals": partial(start_up.first_refusals, sources),
            "CPU of a deletion": partial(warm.cpu, sources, database, 2.7),
            "CPU of a deletion over TLS": partial(warm.cpu, sources, cloud, 3.2),
            "calls to Firestore": partial(warm.calls, sources),
            "requests to the metadata server": partial(google_cloud.metadata_requests, sources),
            "decoding": warm.decoding,
            "bursts": partial(load.bursts, sources, database),
            "large bodies": partial(load.large_bodies, sources),
        }
        print(f"Measured on {table.machine()}.\n\n{table.HEADER}", flush=True)
        for what, measure in measurements.items():
            try:
                for row in measure():
                    print(row, flush=True)
            except NotMeasurable as reason:
                print(table.Row(what, "", str(reason), "", kept=None), flush=True)


main()
