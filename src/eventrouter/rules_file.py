"""The rules file while a process runs: what it holds is checked and tested before it is used."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

import structlog

from .config import Config, load, loads
from .config_tests import companion, load_companion
from .errors import ConfigError, EventRouterError, Problem
from .file_changes import FileChanges
from .hiding import hide_secrets
from .kept_rules import KeptRules
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


def read_rules(path: Path, plugins: Plugins, environ: Mapping[str, str], *, check_files: bool = False) -> Config:
    """The rules of a file, with the tests beside it. Raises `ConfigError` when it is broken, or a test fails.

    See `config.load` for `check_files`.
    """
    config = load(path, plugins, environ, check_files=check_files)
    try:
        config = load_companion(config, environ)
        results = run_tests(config, config.tests, plugins.template_filters) if config.tests else ()
        failures = [
            Problem(one.test.path, one.test.line, 0, f"the test “{one.test.name}” fails: {mistake}")
            for one in results
            for mistake in one.mistakes
        ]
        if failures:
            raise ConfigError(failures)
    except ConfigError as error:
        error.files = config.files
        raise
    return config


class RulesFile:
    """Follows the files that the rules in use were read from.

    A broken file, or one whose tests fail, leaves the last good one in use; `problem` says why.
    """

    def __init__(self, config: Config, plugins: Plugins, environ: Mapping[str, str], kept: KeptRules) -> None:
        """`kept` is where the rules in use are kept for the next start."""
        self.config = config
        """In use."""
        self.problem = ""
        """Why the files are not in use as they are; empty when they are."""
        self._plugins = plugins
        self._environ = environ
        self._kept = kept
        self._changes = FileChanges(_files(config))

    @classmethod
    def open(cls, path: Path, plugins: Plugins, environ: Mapping[str, str], kept: KeptRules) -> RulesFile:
        """Reads a rules file, at a start. When it can't be used the last good one is, if `kept` has it.

        Raises `ConfigError` when it has none.
        """
        changes = FileChanges([path, companion(path)])
        for broken in plugins.broken.values():
            log.warning("a plugin can't be used", reason=str(broken), hint=broken.hint)
        refusal: Exception | None = None
        try:
            config = read_rules(path, plugins, environ)
        except Exception as error:
            last = _last_good(path, plugins, environ, kept)
            if last is None:
                raise
            config, refusal = last, error
        opened = cls(config, plugins, environ, kept)
        opened._changes = changes  # as it was before the files were read: what was saved meanwhile is a change
        opened._watch(refusal)
        if refusal is not None:
            opened._refuse(refusal)
        return opened

    async def follow(self, take_over: Callable[[Config], Awaitable[None]]) -> None:
        """Hands good changes over, until it is cancelled."""
        await self._keep()
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
            hide_secrets(config)
            if config.version != self.config.version:
                for name in FIXED:
                    if getattr(config, name) != getattr(self.config, name):
                        log.warning("a change of the rules file takes effect at the next start", what=name)
                await take_over(config)
                log.info("the rules were replaced", rules=config.version, before=self.config.version)
                self.config = config
                await self._keep()
            elif self.problem:
                log.info("the rules file is again what is in use", rules=config.version)
            self.problem = ""
        except Exception as error:
            self._refuse(error)

    def _read(self) -> Config:
        try:
            config = read_rules(Path(self.config.path), self._plugins, self._environ)
        except ConfigError as error:
            self._watch(error)
            raise
        self._changes.watch(_files(config))
        return config

    def _watch(self, refusal: Exception | None = None) -> None:
        """Looks at the files in use, and at those in which what is wrong may be put right."""
        self._changes.watch([*_files(self.config), *map(Path, getattr(refusal, "files", ()))])

    def _refuse(self, error: Exception) -> None:
        """The files are not used because of `error`."""
        expected = isinstance(error, EventRouterError)
        problem = str(error) if expected else f"{type(error).__name__}: {error}"
        problem = mask(problem)[:MAX_PROBLEM]
        if not expected:
            log.error("the rules file can't be taken over", exc_info=error)
        if problem != self.problem:
            self.problem = problem
            log.error("the rules file can't be used; the last good one is", rules=self.config.version, problem=problem)

    async def _keep(self) -> None:
        """Keeps the rules in use for the next start."""
        try:
            await asyncio.to_thread(self._kept.keep, self.config.texts)
        except OSError as error:
            log.warning("the rules can't be kept: a start needs a good rules file", reason=str(error))


def last_good(path: Path, plugins: Plugins, environ: Mapping[str, str], kept: KeptRules) -> Config | None:
    """The rules that were kept of this file, None where there are none. Raises `ConfigError` where they don't do."""
    texts = kept.texts()
    return loads(texts[0][1], plugins, environ, path=str(path), included=texts[1:]) if texts else None


def _last_good(path: Path, plugins: Plugins, environ: Mapping[str, str], kept: KeptRules) -> Config | None:
    try:
        return last_good(path, plugins, environ, kept)
    except ConfigError as error:
        log.error("the last good rules can't be used either", problem=str(error)[:MAX_PROBLEM])
        return None


def _files(config: Config) -> list[Path]:
    path = Path(config.path)
    return [path, companion(path), *map(Path, config.files)]
