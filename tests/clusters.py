"""A Redis Cluster of private servers on free ports: three primaries, replicas if asked for."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Callable, Iterator, Sequence

import redis

from .servers import KeyValueServer, start_redis, valkey_binary

SLOTS = 16384


def free_port() -> int:
    """A port that nobody listens on, nor on the one of its bus 10,000 above."""
    while True:
        with socket.socket() as one, socket.socket() as bus:
            one.bind(("127.0.0.1", 0))
            port = one.getsockname()[1]
            if port + 10_000 < 65_536:
                with contextlib.suppress(OSError):
                    bus.bind(("127.0.0.1", port + 10_000))
                    return int(port)


class Node:
    """One server of the cluster."""

    def __init__(self, binary: str, port: int) -> None:
        self.port = port
        self.server: KeyValueServer = start_redis(
            binary, "--port", str(self.port), "--bind", "127.0.0.1", "--cluster-enabled", "yes",
            "--cluster-config-file", "nodes.conf", "--cluster-node-timeout", "1000",
            "--repl-diskless-sync-delay", "0",
        )  # fmt: skip
        self.client = redis.Redis(port=self.port, decode_responses=True)
        self.id = str(self.client.execute_command("CLUSTER MYID"))

    def ask(self, *words: object) -> object:
        """A command of the cluster."""
        return self.client.execute_command("CLUSTER", *words)

    def stop(self) -> None:
        """End the server."""
        self.client.close()
        self.server.stop()


class Cluster:
    """Some nodes that share the slots."""

    def __init__(
        self, primaries: int = 3, replicas: int = 0, ports: Sequence[int] | None = None
    ) -> None:
        ports = ports or [free_port() for _ in range(primaries + replicas)]
        self.nodes = [Node(str(valkey_binary()), port) for port in ports]
        self.primaries = self.nodes[:primaries]
        for index, node in enumerate(self.nodes):
            node.ask("SET-CONFIG-EPOCH", index + 1)
            node.ask("MEET", "127.0.0.1", self.nodes[0].port)
        for index, node in enumerate(self.primaries):
            start, end = (SLOTS * at // primaries for at in (index, index + 1))
            node.ask("ADDSLOTS", *range(start, end))
        self.wait(lambda: all(self._knows_all(node) for node in self.nodes))
        for index, node in enumerate(self.nodes[primaries:]):
            node.ask("REPLICATE", self.primaries[index % primaries].id)
        self.wait(lambda: all(self._sound(node) for node in self.nodes))

    def _knows_all(self, node: Node) -> bool:
        return len(node.client.cluster("NODES")) == len(self.nodes)

    def _sound(self, node: Node) -> bool:
        info = node.client.cluster("INFO")
        wanted = node in self.primaries or node.client.info("replication")["master_link_status"]
        return info["cluster_state"] == "ok" and wanted in (True, "up")

    @staticmethod
    def wait(ready: Callable[[], bool], seconds: float = 30) -> None:
        """Return when ``ready()``; raise TimeoutError if that does not come."""
        until = time.monotonic() + seconds
        while not ready():
            if time.monotonic() > until:
                raise TimeoutError("the cluster is not ready")
            time.sleep(0.05)

    @property
    def url(self) -> str:
        """The URL of the first node."""
        return f"redis://127.0.0.1:{self.nodes[0].port}/0"

    def flush(self) -> None:
        """Empty all primaries."""
        for node in self.nodes:
            if node.client.info("replication")["role"] == "master":
                node.client.flushall()

    def owner(self, slot: int) -> Node:
        """The primary that serves a slot, as the first node sees it."""
        for start, end, primary, *_ in self.raw_slots():
            if start <= slot <= end:
                return next(node for node in self.nodes if node.port == primary[1])
        raise LookupError(slot)

    def raw_slots(self) -> list[list[object]]:
        """The reply to CLUSTER SLOTS as it is."""
        with redis.Redis(port=self.nodes[0].port) as client:
            client.set_response_callback("CLUSTER SLOTS", lambda reply, **options: reply)
            return client.execute_command("CLUSTER SLOTS")  # type: ignore[no-any-return]

    def stop(self) -> None:
        """End all servers."""
        for node in self.nodes:
            node.stop()


@contextlib.contextmanager
def running(primaries: int = 3, replicas: int = 0) -> Iterator[Cluster]:
    """A cluster while the block runs."""
    cluster = Cluster(primaries, replicas)
    try:
        yield cluster
    finally:
        cluster.stop()
