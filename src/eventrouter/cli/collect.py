"""`eventrouter collect`: a collector by itself."""

from __future__ import annotations

import os
import socket
from functools import partial
from typing import TYPE_CHECKING, Any

import typer

from .. import child
from .common import ConfigOption, DataDirOption, HostOption, PortOption, load_app, read_settings, warn_of_new

if TYPE_CHECKING:
    from ..app import EventRouter


def register(app: typer.Typer) -> None:
    """Adds `collect`."""

    @app.command()
    def collect(
        config: ConfigOption = None,
        data_dir: DataDirOption = None,
        host: HostOption = None,
        port: PortOption = None,
    ) -> None:
        """Run a collector: takes events over HTTP and keeps them in the event log, until SIGTERM.

        It uses the Redis or Valkey of EVENTROUTER_REDIS_URL, else the embedded one that `eventrouter up` runs on the
        data directory.
        """
        from ..ports import bind
        from ..serve import run, serve

        settings = read_settings(config=config, data_dir=data_dir, host=host, port=port)
        if not settings.data_dir.exists():
            warn_of_new(settings.data_dir, "what waits in the spool of another one stays there")
        router = load_app(settings, serves=True)
        child.report(**facts(router))
        listener = inherited_listener() or bind(settings.host, settings.port)

        async def main() -> None:
            try:
                await router.intake.start()
                child.report(away=router.event_log.reason)
                collector = router.collector()
                router.follow("collector", partial(router.use_sources, collector))
                app = collector if router.tracing is None else router.tracing.around(collector)
                spool = router.event_log.spool
                where = str(spool.directory) if spool else "none"
                refused = collector.count_refused
                await serve(app, settings.host, settings.port, listener=listener, on_refused=refused, spool=where)
            finally:
                await router.close()

        run(main())


def facts(router: EventRouter) -> dict[str, Any]:
    """What `up` shows when all is ready."""
    from ..settings import mask_url

    sources = [source for source in router.config.sources.values() if source.enabled and source.write_keys]
    url = router.config.warehouse.url
    known: dict[str, Any] = {"warehouse": mask_url(url) if url else str(router.settings.data_dir / "warehouse.sqlite3")}
    if router.rules_file.problem:
        known["problem"] = router.rules_file.problem
    if sources:
        known |= {"source": sources[0].name, "write_key": sources[0].write_keys[0]}
    return known


def inherited_listener() -> socket.socket | None:
    """The listening socket that `up` holds, so that no connection is refused while a collector starts again."""
    descriptor = os.environ.pop(child.LISTENER_VARIABLE, "")
    if not child.is_attached() or not descriptor.isdigit():
        return None
    listener = socket.socket(fileno=int(descriptor))
    listener.set_inheritable(False)
    listener.setblocking(False)
    return listener
