"""`eventrouter work`: a worker by itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from .. import child
from .common import ConfigOption, DataDirOption, load_app, read_settings, warn_of_new

GroupOption = Annotated[
    str | None,
    typer.Option(
        "--group", "-g", help="Serve the destinations of this group (EVENTROUTER_WORKER_GROUP).", show_default=False
    ),
]


def register(app: typer.Typer) -> None:
    """Adds `work`."""

    @app.command()
    def work(config: ConfigOption = None, data_dir: DataDirOption = None, group: GroupOption = None) -> None:
        """Run a worker: routes events and delivers them, until SIGTERM. The same as `arq eventrouter.WorkerSettings`.

        It uses the Redis or Valkey of EVENTROUTER_REDIS_URL, else the embedded one that `eventrouter up` runs on the
        data directory. Any number may run. With --group it serves the destinations of this `worker_group` alone, and
        without it all that have none.
        """
        from redis.exceptions import RedisError

        from ..app import EventRouter, make_worker_settings
        from ..errors import UnavailableError
        from ..queue import run_worker
        from ..serve import run

        settings = read_settings(config=config, data_dir=data_dir, worker_group=group)
        is_new = not settings.data_dir.exists()
        router = load_app(settings, serves=True)
        if is_new and not (router.config.warehouse.url and router.config.state.url):
            warn_of_new(settings.data_dir, "the SQLite files of the warehouse or the state begin empty there")
        if settings.worker_group and settings.worker_group not in router.config.worker_groups:
            warn_of_group(settings.worker_group, router.config.worker_groups)

        async def prepare() -> None:
            # A client belongs to its event loop, and arq makes its own: so this one is another.
            first = EventRouter(router.config, settings, router.plugins)
            try:
                await first.connect()
                if child.is_alone():
                    await first.expire_leases(probe=not child.is_replacement())
            finally:
                await first.close()

        # Also where there is nothing to expire: what keeps the worker from starting is told as it is, not by arq.
        run(prepare())
        child.report(leases_expired=True)
        try:
            run_worker(make_worker_settings(settings, lambda _: router))
        except (RedisError, OSError) as error:
            # arq gives up when its server is away for long, or while it ends. `up` starts a worker anew.
            raise UnavailableError(f"the worker lost its Redis: {error}", hint="start the worker again") from None


def warn_of_group(group: str, known: Sequence[str]) -> None:
    """Tells the log that a worker has nothing to serve: a name may be mistyped."""
    import structlog

    hint = f"there are: {', '.join(known)}" if known else "give a destination `worker_group:`"
    structlog.get_logger("eventrouter.work").warning("no destination has this worker group", group=group, hint=hint)


def arq_settings() -> type:
    """What arq finds as `eventrouter.WorkerSettings`: that of the environment, with logs as `work` has them.

    What is wrong is told as `work` tells it, and ends the process with its exit code: arq would show a traceback.
    """
    import logging

    from ..app import make_worker_settings
    from ..errors import EventRouterError
    from . import fail

    try:
        settings = read_settings()
        logging.getLogger("arq").propagate = False  # arq's command gives it a handler of its own
        router = load_app(settings, serves=True)
    except EventRouterError as error:
        raise SystemExit(fail(error)) from None
    return make_worker_settings(settings, lambda _: router)
