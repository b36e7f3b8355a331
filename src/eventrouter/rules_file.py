"""The rules file while a process runs: a change is checked and tested before it is taken over."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

import structlog

from .config import Config, load
from .config_tests import companion, load_companion
from .errors import ConfigError, EventRouterError
from .file_changes import FileChanges
from .logs import mask
from .plugins import Plugins
from .rule_tests import run_tests

log = structlog.get_logger("eventrouter.rules_file")

LOOK_SECONDS = 0.5
"""How often the files are looked at."""
QUIET_SECONDS = 0.4
"""For so long nothing may change before the files are read: they may be half-written."""
MAX_PROBLEM = 500

FIXED = ("warehouse", "state", "collect")
"""What is taken over only at the next start: it is connected to, or listened at."""


class RulesFile:
    """Follows the files that the rules in use were read from.

    A broken file, or one whose tests fail, leaves the last good one in use; `problem` says why.
    """

    def __init__(self, config: Config, plugins: Plugins, environ: Mapping[str, str]) -> None:
        self.config = config
        """In use."""
        self.problem = ""
        """Why the files are not in use as they are; empty when they are."""
        self._plugins = plugins
        self._environ = environ
        self._changes = FileChanges(self._files(config))
        self._version = config.version
        """Of what was looked at last, whether or not it is in use."""

    async def follow(self, take_over: Callable[[Config], Awaitable[None]]) -> None:
        """Hands good changes over, until it is cancelled."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            if await self._changed():
                await self._quiet()
                await self.look(take_over)

    async def _quiet(self) -> None:
        """Waits until nobody is writing any more."""
        changes = True
        while changes:
            await asyncio.sleep(QUIET_SECONDS)
            changes = await self._changed()

    async def _changed(self) -> bool:
        # In a thread: a network disk may take its time.
        return await asyncio.to_thread(self._changes.changed)

    async def look(self, take_over: Callable[[Config], Awaitable[None]]) -> None:
        """Reads, checks and tests the files; hands the rules over if they are good, and others than those in use."""
        try:
            config = await asyncio.to_thread(self._read)
            if config.version != self.config.version:
                for name in FIXED:
                    if getattr(config, name) != getattr(self.config, name):
                        log.warning("a change of the rules file takes effect at the next start", what=name)
                await take_over(config)
                log.info("the rules were replaced", rules=config.version, before=self.config.version)
                self.config = config
            elif self.problem:
                log.info("the rules file is again what is in use", rules=config.version)
            self.problem = ""
        except Exception as error:
            problem = str(error) if isinstance(error, EventRouterError) else f"{type(error).__name__}: {error}"
            problem = mask(problem)[:MAX_PROBLEM]
            if not isinstance(error, EventRouterError):
                log.exception("the rules file can't be taken over")
            if problem != self.problem:
                self.problem = problem
                log.error(
                    "the rules file can't be used; the last good one is", rules=self.config.version, problem=problem
                )

    def _read(self) -> Config:
        """Raises `ConfigError` for a broken file, `EventRouterError` for a test that fails."""
        try:
            config = load(self.config.path, self._plugins, self._environ)
            tests = [*config.tests, *load_companion(config, self._environ)]
        except ConfigError as error:
            self._changes.watch([*self._files(self.config), *map(Path, error.files)])
            raise
        self._changes.watch(self._files(config))
        for result in run_tests(config, tests, self._plugins.template_filters):
            for mistake in result.mistakes:
                test = result.test
                raise EventRouterError(f"{test.path}:{test.line}: the test “{test.name}” fails: {mistake}")
        return config

    @staticmethod
    def _files(config: Config) -> list[Path]:
        path = Path(config.path)
        return [path, companion(path), *map(Path, config.files)]
